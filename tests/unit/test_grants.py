"""What to ask an administrator for: each gate, each kind of subject, as text that a machine takes."""

from __future__ import annotations

import shlex

import pytest
import yaml

from app.cluster.grants import Grant, Subject, SubjectKind, grants_for, parse_subject
from app.errors import UsageError
from app.profiles.model import AksCluster, ArcCluster, InvokeHop, KubeconfigCluster, Profile
from tests.unit.test_who import AKS, ARC

OID = "0a000000-0000-0000-0000-000000000001"
JO = Subject(SubjectKind.PERSON, "jo@contoso.com", OID)
EDGE = Profile("shop-edge", ArcCluster(ARC))


def manifests(grant: Grant) -> list[dict]:
    return list(yaml.safe_load_all(grant.text))


def assignments(grant: Grant) -> list[dict[str, str]]:
    """Flags of each az command, as a shell splits them."""
    found = []
    for line in grant.text.splitlines():
        if not line.startswith("#"):
            words = shlex.split(line)
            assert words[:4] == ["az", "role", "assignment", "create"]
            found.append(dict(zip(words[4::2], words[5::2], strict=True)))
    return found


def test_a_person_on_arc_needs_the_tunnel_and_one_of_two_ways_to_read() -> None:
    tunnel, binding, azure = grants_for(EDGE, JO, JO)
    who = {"--assignee-object-id": OID, "--assignee-principal-type": "User"}
    assert assignments(tunnel) == [{**who, "--role": "Azure Arc Enabled Kubernetes Cluster User Role", "--scope": ARC}]
    assert "00493d72-78f6-4148-b6c5-d3ce8e4799dd" in tunnel.text and "jo@contoso.com" in tunnel.text
    assert assignments(azure) == [{**who, "--role": "Azure Arc Kubernetes Viewer", "--scope": ARC}]
    assert [grant.instead for grant in (tunnel, binding, azure)] == [False, False, True]
    (made,) = manifests(binding)
    assert made["kind"] == "ClusterRoleBinding" and made["metadata"] == {"name": "jumpdeck-view-jo-contoso-com"}
    assert made["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    assert [(subject["kind"], subject["name"]) for subject in made["subjects"]] == [
        ("User", "jo@contoso.com"), ("User", OID)
    ]  # fmt: skip


def test_what_a_shell_would_run_stands_in_quotes() -> None:
    """A profile may come from somebody else; an administrator pastes what is shown."""
    hostile = ARC.removesuffix("shop-01") + "$(id)`id`\"'x"
    who = Subject(SubjectKind.PERSON, "jo@contoso.com", "1; id")
    for profile in (Profile("x", ArcCluster(hostile)), Profile("x", AksCluster(hostile), namespaces=("shop",))):
        for grant in grants_for(profile, who, who):
            if grant.gate == "azure":
                (made,) = assignments(grant)
                assert made["--scope"].startswith(hostile) and made["--assignee-object-id"] == "1; id"
                words = shlex.split(grant.text, comments=True, posix=False)  # as they are written
                assert not [word for word in words if "id" in word and "$(" in word and word[0] != "'"]


def test_namespaces_and_write_make_the_request_as_small_as_the_profile() -> None:
    profile = Profile("p", ArcCluster(ARC), namespaces=("shop", "pay"), allow_write=True)
    _, binding, azure = grants_for(profile, JO, JO)
    made = manifests(binding)
    assert [(one["kind"], one["metadata"]["namespace"], one["roleRef"]["name"]) for one in made] == [
        ("RoleBinding", "shop", "edit"), ("RoleBinding", "pay", "edit")
    ]  # fmt: skip
    assert [one["--scope"] for one in assignments(azure)] == [f"{ARC}/namespaces/shop", f"{ARC}/namespaces/pay"]
    assert {one["--role"] for one in assignments(azure)} == {"Azure Arc Kubernetes Writer"}


@pytest.mark.parametrize(
    ("asked", "kind", "principal"),
    [(f"group:{OID}", "Group", "Group"), (f"application:{OID.upper()}", "User", "ServicePrincipal"),
     (f"user:{OID}", "User", "User")],
)  # fmt: skip
def test_groups_and_applications_go_by_object_id(asked, kind, principal) -> None:
    subject = parse_subject(asked, EDGE)
    tunnel, binding, _ = grants_for(EDGE, subject, subject)
    assert assignments(tunnel)[0]["--assignee-principal-type"] == principal
    (made,) = manifests(binding)
    assert [(one["kind"], one["name"]) for one in made["subjects"]] == [(kind, OID)]


def test_a_guest_by_name_alone_is_quoted_for_shell_and_yaml() -> None:
    name = "jo_fabrikam.com#EXT#@contoso.onmicrosoft.com"
    subject = parse_subject(f"person:{name}", EDGE)
    tunnel, binding, _ = grants_for(EDGE, subject, subject)
    assert assignments(tunnel)[0]["--assignee"] == name
    assert [one["name"] for one in manifests(binding)[0]["subjects"]] == [name]


def test_a_service_account_comes_with_its_secret_its_binding_and_a_pipe_that_prints_nothing() -> None:
    profile = Profile("shop-edge", ArcCluster(ARC, auth="token"), namespaces=("shop",))
    tunnel, made, pipe = grants_for(profile, parse_subject("sa:reader", profile), None)
    assert assignments(tunnel)[0]["--assignee"] == "WHO-SIGNS-IN"
    account, secret, binding = manifests(made)
    assert (account["kind"], account["metadata"]) == ("ServiceAccount", {"name": "reader", "namespace": "shop"})
    assert (secret["kind"], secret["type"]) == ("Secret", "kubernetes.io/service-account-token")
    assert secret["metadata"]["annotations"] == {"kubernetes.io/service-account.name": "reader"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "reader", "namespace": "shop"}]
    commands = [line for line in pipe.text.splitlines() if not line.startswith("#")]
    assert commands[0] == (
        "kubectl get secret reader-token -n shop -o jsonpath='{.data.token}' | base64 -d | "
        "jumpdeck secrets set token shop-edge"
    )
    assert 'auth = "token"' not in pipe.text and 'auth = "token"' in grants_for(
        EDGE, parse_subject("sa:default/reader", EDGE), None
    )[2].text  # fmt: skip


def test_aks_has_roles_of_its_own_and_command_invoke_two_actions() -> None:
    profile = Profile("p", AksCluster(AKS), via=(InvokeHop(),))
    credential, invoke, _, azure = grants_for(profile, JO, JO)
    assert assignments(credential)[0]["--role"] == "Azure Kubernetes Service Cluster User Role"
    assert "runcommand/action" in invoke.text and "commandResults/read" in invoke.text
    assert assignments(azure)[0]["--role"] == "Azure Kubernetes Service RBAC Reader"


def test_other_clusters_have_bindings_only_and_the_unknown_get_nothing() -> None:
    profile = Profile("p", KubeconfigCluster("/k"))
    (binding,) = grants_for(profile, Subject(SubjectKind.USER, 'jo: "x" [y]'), None)
    assert [one["name"] for one in manifests(binding)[0]["subjects"]] == ['jo: "x" [y]']
    assert grants_for(profile, None, None) == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("jo@contoso.com", "names nobody"),
        ("robot:x", "names nobody"),
        ("person:", "names nobody"),
        ("person:jo", "no user principal name"),
        ("person:jo$(id)@contoso.com", "no user principal name"),
        ("group:ops team", "az ad group show --group 'ops team' --query id"),
        ("app:deployer", "az ad sp list --display-name deployer"),
        ("service-account:Shop/Reader", "no service account"),
    ],
)
def test_whom_nobody_can_be_asked_for(asked, said) -> None:
    with pytest.raises(UsageError) as caught:
        parse_subject(asked, EDGE)
    assert caught.value.code == "JD-USAGE-SUBJECT" and said in f"{caught.value.detail} {caught.value.hint}"
