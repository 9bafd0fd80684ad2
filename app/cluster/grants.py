"""What to ask an administrator for: the role in Azure, and the binding in the cluster. Nothing here is applied.

Two gates stand one behind the other. Azure's: who may ask ARM for the way in (built-in roles "… Cluster User Role").
Kubernetes': what the API server lets them do, by a (Cluster)RoleBinding, or by Azure RBAC where the cluster has it on.
An Entra person is named in a binding by UPN or by object id, depending on the cluster, so manifests name both.
Sources: learn.microsoft.com, azure-arc/kubernetes/cluster-connect and azure-rbac; aks/manage-azure-rbac; kubernetes.io,
reference/access-authn-authz/rbac and configure-service-account.
"""

from __future__ import annotations

import json
import re
import shlex
from enum import Enum

from app.arc.failures import USER_ROLE
from app.errors import UsageError
from app.identity.claims import Kind, Who
from app.profiles import patterns
from app.profiles.model import AksCluster, ArcCluster, InvokeHop, Profile
from app.records import Record
from app.text import clean

_ARC_USER_ROLE_ID = "00493d72-78f6-4148-b6c5-d3ce8e4799dd"
_AKS_USER_ROLE = "Azure Kubernetes Service Cluster User Role"
_AKS_ADMIN_ROLE = "Azure Kubernetes Service Cluster Admin Role"
_ARC_ROLES = ("Azure Arc Kubernetes Viewer", "Azure Arc Kubernetes Writer")
_AKS_ROLES = ("Azure Kubernetes Service RBAC Reader", "Azure Kubernetes Service RBAC Writer")
_INVOKE = ("Microsoft.ContainerService/managedClusters/runcommand/action",
           "Microsoft.ContainerService/managedClusters/commandResults/read",
           "or, with more than that, the built-in role \"Azure Kubernetes Service Contributor Role\"")  # fmt: skip
_RBAC = "rbac.authorization.k8s.io"
_SLUG = 40
"""Characters of a subject that are taken into the name of its binding; the whole name may have 253."""


class SubjectKind(Enum):
    """For whom access is asked for."""

    PERSON = "person"
    GROUP = "group"
    APPLICATION = "application"
    SERVICE_ACCOUNT = "service-account"
    USER = "user"
    """A user of the cluster's own making: the common name of a client certificate."""


class Subject(Record):
    """For whom; all text is cleaned. At least one of `name` and `object_id` is there."""

    kind: SubjectKind
    name: str = ""
    """UPN of a person, name of a service account or user."""
    object_id: str = ""
    """In Entra; of an application that of its service principal."""
    namespace: str = ""
    """Of a service account."""
    exists: bool = True
    """Whether a service account is there already."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name or self.object_id


class Grant(Record):
    """One thing to ask for."""

    gate: str
    """`azure`, `kubernetes`, or `here` for what the person does with the result."""
    title: str
    text: str
    """To copy: commands, one a line, or a manifest. Comments begin with `#`."""
    instead: bool = False
    """It stands in place of the one before it: either of the two will do."""


_WORDS = {
    "person": SubjectKind.PERSON, "user": SubjectKind.PERSON, "group": SubjectKind.GROUP,
    "application": SubjectKind.APPLICATION, "app": SubjectKind.APPLICATION,
    "service-account": SubjectKind.SERVICE_ACCOUNT, "serviceaccount": SubjectKind.SERVICE_ACCOUNT,
    "sa": SubjectKind.SERVICE_ACCOUNT,
}  # fmt: skip
_ACCOUNT_NAME = r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?"
"""A DNS subdomain (RFC 1123), as Kubernetes names service accounts; dots in a row are left to the API server."""
_UPN = r"[^\s@\"'`$\\<>|&;()]{1,64}@[A-Za-z0-9.-]{1,190}"
_FORMS = "person:UPN, person:OBJECT-ID, group:OBJECT-ID, application:OBJECT-ID, service-account:[NAMESPACE/]NAME"


def parse_subject(text: str, profile: Profile) -> Subject:
    """The subject that `KIND:NAME` means. Raises UsageError (JD-USAGE-SUBJECT)."""
    word, colon, name = text.partition(":")
    kind, name = _WORDS.get(word.strip().lower()), name.strip()
    if kind is None or not colon or not name:
        raise _usage(f"`{clean(text)}` names nobody", f"It is one of: {_FORMS}.")
    if kind is SubjectKind.SERVICE_ACCOUNT:
        namespace, slash, account = name.rpartition("/")
        namespace = namespace if slash else next(iter(profile.namespaces), "default")
        if not (re.fullmatch(patterns.NAMESPACE, namespace) and re.fullmatch(_ACCOUNT_NAME, account)):
            raise _usage(f"`{clean(name)}` is no service account", "It is [NAMESPACE/]NAME, as Kubernetes names them.")
        return Subject(kind, account, namespace=namespace, exists=False)
    if re.fullmatch(patterns.GUID, name):
        return Subject(kind, object_id=name.lower())
    if kind is SubjectKind.PERSON:
        if not re.fullmatch(_UPN, name):
            raise _usage(f"`{clean(name)}` is no user principal name", "It looks like ops@contoso.com.")
        return Subject(kind, clean(name))
    shown = shlex.quote(clean(name))
    find = f"group show --group {shown} --query id" if kind is SubjectKind.GROUP else (
        f"sp list --display-name {shown} --query [].id")
    raise _usage(f"`{clean(name)}` is no object id, and roles and bindings know a {kind.value} by nothing else",
                 f"Find it with: az ad {find} -o tsv")  # fmt: skip


def _usage(why: str, hint: str) -> UsageError:
    return UsageError("For whom?", why, hint, code="JD-USAGE-SUBJECT")


def subject_of(who: Who) -> Subject | None:
    """The subject that a credential speaks for; None where it does not say enough."""
    if who.kind is Kind.PERSON and (who.upn or who.object_id):
        return Subject(SubjectKind.PERSON, who.upn, who.object_id)
    if who.entra and who.object_id:
        return Subject(SubjectKind.APPLICATION, object_id=who.object_id)
    if who.kind is Kind.SERVICE_ACCOUNT:
        namespace, name = who.account
        return Subject(SubjectKind.SERVICE_ACCOUNT, name, namespace=namespace) if namespace and name else None
    if who.kind is Kind.CERTIFICATE and who.name:
        return Subject(SubjectKind.USER, who.name)
    return None


def grants_for(profile: Profile, subject: Subject | None, opener: Subject | None) -> tuple[Grant, ...]:
    """What to ask for, in the order of the gates.

    `subject` is who works in the cluster, `opener` who asks ARM for the way in (a service account cannot); either may
    be None where it is not known, and what would need it is left out or has a placeholder.
    """
    cluster = profile.cluster
    found: list[Grant] = []
    if isinstance(cluster, ArcCluster):
        found.append(_azure(opener, "may open the tunnel to the cluster", USER_ROLE, (cluster.arc,),
                            comment=f"the role's id is {_ARC_USER_ROLE_ID}"))  # fmt: skip
    elif isinstance(cluster, AksCluster):
        role = _AKS_ADMIN_ROLE if cluster.auth == "admin" else _AKS_USER_ROLE
        found.append(_azure(opener, "may ask for the cluster's credential", role, (cluster.aks,)))
        if any(isinstance(hop, InvokeHop) for hop in profile.via):
            found.append(Grant("azure", "Azure: a custom role that may run commands in the cluster",
                               "\n".join(f"# {line}" for line in _INVOKE)))  # fmt: skip
        if cluster.auth == "admin":
            return tuple(found)  # the local administrator may do everything
    if subject is None:
        return tuple(found)
    if subject.kind is SubjectKind.SERVICE_ACCOUNT:
        return (*found, *_service_account(profile, subject))
    found.append(Grant("kubernetes", f"Kubernetes: {_may(profile)}", _bindings(profile, subject)))
    if isinstance(cluster, ArcCluster | AksCluster) and subject.kind is not SubjectKind.USER:
        arc = isinstance(cluster, ArcCluster)
        scope = cluster.arc if isinstance(cluster, ArcCluster) else cluster.aks
        scopes = tuple(f"{scope}/namespaces/{name}" for name in profile.namespaces) or (scope,)
        role = (_ARC_ROLES if arc else _AKS_ROLES)[profile.allow_write]
        found.append(_azure(subject, f"{_may(profile)}, where the cluster has Azure RBAC on", role, scopes,
                            instead=True))  # fmt: skip
    return tuple(found)


# -- Azure ------------------------------------------------------------------------------------------------------------


def _azure(
    who: Subject | None, what: str, role: str, scopes: tuple[str, ...], *, comment: str = "", instead: bool = False
) -> Grant:
    lines = [f"# {comment}"] if comment else []
    if who is not None and who.name and who.object_id:
        lines.append(f"# for {who.name}")
    lines += [f'az role assignment create {_assignee(who)} --role "{role}" --scope {_word(scope)}' for scope in scopes]
    return Grant("azure", f"Azure: {what}", "\n".join(lines), instead)


def _word(text: str) -> str:
    """One word for a shell, whatever stands in it: a profile may be another's, and an administrator pastes this."""
    return f'"{text}"' if re.fullmatch(r"[\w/.() -]+", text, re.ASCII) else shlex.quote(text)


_PRINCIPALS = {SubjectKind.PERSON: "User", SubjectKind.GROUP: "Group", SubjectKind.APPLICATION: "ServicePrincipal"}


def _assignee(who: Subject | None) -> str:
    """By object id where it is known: that needs no right to read the directory."""
    if who is None or who.kind not in _PRINCIPALS:
        return "--assignee WHO-SIGNS-IN"
    if who.object_id:
        return f"--assignee-object-id {shlex.quote(who.object_id)} --assignee-principal-type {_PRINCIPALS[who.kind]}"
    return f"--assignee {shlex.quote(who.name)}"


# -- Kubernetes -------------------------------------------------------------------------------------------------------


def _may(profile: Profile) -> str:
    does = "may read and change" if profile.allow_write else "may read"
    return f"{does} in {', '.join(profile.namespaces)}" if profile.namespaces else f"{does} in all namespaces"


def _bindings(profile: Profile, subject: Subject) -> str:
    """One RoleBinding for each namespace of the profile, or one ClusterRoleBinding."""
    role = "edit" if profile.allow_write else "view"
    slug = re.sub(r"[^a-z0-9]+", "-", str(subject).lower()).strip("-")[:_SLUG].strip("-")
    made = [_binding(f"jumpdeck-{role}-{slug}", role, namespace, subject) for namespace in profile.namespaces or ("",)]
    return "\n---\n".join(made)


def _binding(name: str, role: str, namespace: str, subject: Subject) -> str:
    lines = [
        f"apiVersion: {_RBAC}/v1",
        f"kind: {'RoleBinding' if namespace else 'ClusterRoleBinding'}",
        "metadata:",
        f"  name: {name}",
        *([f"  namespace: {_quoted(namespace)}"] if namespace else []),
        "roleRef:",
        f"  apiGroup: {_RBAC}",
        "  kind: ClusterRole",
        f"  name: {role}",
        "subjects:",
        *_subjects(subject),
    ]
    return "\n".join(lines)


def _subjects(subject: Subject) -> list[str]:
    if subject.kind is SubjectKind.SERVICE_ACCOUNT:
        return ["- kind: ServiceAccount", f"  name: {_quoted(subject.name)}",
                f"  namespace: {_quoted(subject.namespace)}"]  # fmt: skip
    kind = "Group" if subject.kind is SubjectKind.GROUP else "User"
    either = "; clusters differ in which of the two they go by" if subject.name else ""
    named = [
        (subject.name, "user principal name" if subject.kind is SubjectKind.PERSON else ""),
        (subject.object_id, f"object id{either}"),
    ]
    return [
        line
        for name, comment in named if name
        for line in (f"- apiGroup: {_RBAC}", f"  kind: {kind}",
                     f"  name: {_quoted(name)}{f'  # {comment}' if comment else ''}")
    ]  # fmt: skip


def _quoted(name: str) -> str:
    """A YAML scalar that is a text whatever stands in it: a JSON string is one (YAML 1.2, §5.7 and §7.3.1)."""
    return json.dumps(name, ensure_ascii=False)


def _service_account(profile: Profile, subject: Subject) -> tuple[Grant, ...]:
    bindings = _bindings(profile, subject)
    if subject.exists:
        return (Grant("kubernetes", f"Kubernetes: {_may(profile)}", bindings),)
    manifest = _ACCOUNT.format(name=_quoted(subject.name), secret=_quoted(f"{subject.name}-token"),
                               namespace=_quoted(subject.namespace))  # fmt: skip
    get = f"kubectl get secret {subject.name}-token -n {subject.namespace} -o jsonpath="
    keep = f"jumpdeck secrets set token {profile.name}"
    hand = [
        "# The token is a secret that does not end by itself. In a pipe it stands nowhere; nothing is printed:",
        f"{get}'{{.data.token}}' | base64 -d | {keep}",
        "# without base64, and in PowerShell: the form that kubectl prints is taken too",
        f'{get}"{{.data.token}}" | {keep}',
    ]
    if getattr(profile.cluster, "auth", "") != "token":
        hand.append('# The profile takes it with auth = "token" in its cluster '
                    '({ arc = "…", auth = "token" } or { server = "…", auth = "token" }).')  # fmt: skip
    what = f"Kubernetes: a service account with a token; {_may(profile)}"
    return (
        Grant("kubernetes", what, f"{manifest}---\n{bindings}"),
        Grant("here", "Then, by who may read the Secret: the token into the secret store", "\n".join(hand)),
    )


_ACCOUNT = """\
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {name}
  namespace: {namespace}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata:
  name: {secret}
  namespace: {namespace}
  annotations:
    kubernetes.io/service-account.name: {name}
"""
