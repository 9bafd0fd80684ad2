"""SSH certificates of Entra: asked for by MSAL as the Azure CLI asks, and taken by OpenSSH's own server."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from app.azure.arm import Arm
from app.azure.context import Azure
from app.errors import SignInError
from app.identity.attending import attend
from app.identity.clouds import CloudEndpoints
from app.identity.identities import SharedIdentity
from app.identity.kinds import make_source
from app.identity.source import About
from app.identity.ssh_certificate import entra_key, request_data
from app.lab.azure_names import TENANT, UPN
from app.profiles.model import AksCluster, Profile, SignIn, SshHop
from app.routes import ssh_certificates
from app.routes.build import build_hops, check_built
from app.routes.context import RouteContext
from app.routes.direct import DirectDialer
from app.routes.host_keys import HostKeys
from app.routes.ssh import Endpoint, SshDial
from app.secrets.secret import Secret, SecretMemory, SecretSource, client_secret_name
from tests.azure_world import CLI_SCOPE, Portal, azure_world
from tests.fakes import FakeAsker
from tests.peers import require
from tests.sshd import USER, Sshd, sshd

SSH_SCOPE = "https://pas.windows.net/CheckMyAccess/Linux/.default"


@pytest.fixture
async def portal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Portal]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    async with azure_world() as portal:
        portal.lab.azure.entra.approve_after = 0.0
        yield portal


@asynccontextmanager
async def azure_as(portal: Portal, kind: str, asker: FakeAsker) -> AsyncIterator[Azure]:
    lab = portal.lab
    endpoints = CloudEndpoints(
        "lab", lab.azure.entra.url, lab.azure.arm.url, CLI_SCOPE, ssh_scope=SSH_SCOPE, ca_file=Path(portal.ca)
    )
    memory = SecretMemory()
    memory.keep(client_secret_name("app-1"), Secret(lab.azure.entra.client_secret))
    about = About(kind, tenant=TENANT, client_id="app-1", authority=endpoints.authority)
    source = make_source(about, endpoints, proxy=None, secrets=SecretSource(asker, memory), asker=asker)
    identity = SharedIdentity(source)
    arm = Arm(identity, endpoints)
    attend(asker)
    try:
        yield Azure(identity, endpoints, arm)
    finally:
        attend(None)
        await arm.aclose()
        await identity.aclose()


def hop(azure: Azure, server: Sshd, folder: Path, *, user: str | None = USER) -> SshDial:
    async def get() -> Azure:
        return azure

    known = folder / "known_hosts"
    known.write_text(server.known_hosts_line)
    context = RouteContext(asker=None, secrets=SecretSource(None, SecretMemory()), host_keys=HostKeys(known, ()),
                           azure=get)  # fmt: skip
    spec = SshHop((f"127.0.0.1:{server.port}",), user=user, entra_certificate=True)
    return SshDial(spec, context, profile="vm", policy="strict")


@asynccontextmanager
async def entra_sshd(portal: Portal, folder: Path) -> AsyncIterator[Sshd]:
    """A server that trusts the lab's authority, and takes the lab's person for whoever runs the tests."""
    asked = request_data(rsa.generate_private_key(65_537, 2_048))
    await portal.lab.azure.entra.ssh.certificate(asked["req_cnf"], time.time())  # its authority is made with the first
    trusted, principals = folder / "entra.pub", folder / "principals"
    trusted.write_text(portal.lab.azure.entra.ssh.public + "\n")
    principals.write_text(UPN + "\n")
    options = {"TrustedUserCAKeys": str(trusted), "AuthorizedPrincipalsFile": str(principals)}
    async with sshd(folder / "sshd", **options) as server:
        yield server


@pytest.mark.parametrize("kind", ["device-code", "service-principal"])
async def test_a_server_that_trusts_entra_lets_the_person_in(portal: Portal, kind: str, tmp_path: Path) -> None:
    asker = FakeAsker()
    async with entra_sshd(portal, tmp_path) as server, azure_as(portal, kind, asker) as azure:
        dial = hop(azure, server, tmp_path)
        async with dial.open(DirectDialer()) as dialer:
            note = dialer.facts().note
        async with dial.open(DirectDialer()):
            pass
        assert server.logins == 2
        await server.logged("Accepted publickey for .* RSA-CERT", times=2)
        assert "certificate ID" in note and "valid until" in note
    assert len(asker.asked) == (kind == "device-code"), "one sign-in, and the certificate without another"


async def test_the_key_stays_and_the_certificate_is_of_it(portal: Portal) -> None:
    async with azure_as(portal, "device-code", FakeAsker()) as azure:
        await azure.identity.token(CLI_SCOPE)
        first = await entra_key(azure.identity, SSH_SCOPE, "lab")
        again = await entra_key(azure.identity, SSH_SCOPE, "lab")
        assert first.private is again.private
        certificate = ssh_certificates.parse(first.certificate, "entra")
        assert certificate.principals == (UPN,) and certificate.critical == ()
        assert "permit-port-forwarding" in certificate.extensions
        assert repr(first) == "EntraKey()"


@pytest.mark.parametrize("ssh_scope", [None, SSH_SCOPE])
async def test_a_cloud_or_a_kind_without_certificates_says_so(portal: Portal, ssh_scope: str | None) -> None:
    async with azure_as(portal, "azure-cli", FakeAsker()) as azure:
        with pytest.raises(SignInError) as caught:
            await entra_key(azure.identity, ssh_scope, "lab")
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-SIGN-IN-CERTIFICATE", 4)
    assert ("az ssh cert" if ssh_scope else "ssh-scope") in caught.value.hint


def test_kinds_that_get_none_are_refused_before_anybody_signs_in() -> None:
    via = (SshHop(("jump",), entra_certificate=True),)
    for kind, good in (("azure-cli", False), ("managed-identity", False), ("browser", True), ("device-code", True)):
        profile = Profile("p", AksCluster("/subscriptions/x"), via=via, sign_in=SignIn(kind))
        if good:
            check_built(profile)
            assert build_hops(profile)
            continue
        with pytest.raises(SignInError) as caught:
            check_built(profile)
        assert caught.value.code == "JD-SIGN-IN-CERTIFICATE" and "device-code" in caught.value.hint


def test_the_login_name_is_the_first_principal_in_lower_case_unless_one_is_named(tmp_path: Path) -> None:
    context = RouteContext(None, SecretSource(None, SecretMemory()), HostKeys(tmp_path / "known", ()))
    certificate = ssh_certificates.Certificate(
        "x", b"", "", "", b"", 0, 1, "", ("Ops@Contoso.com", "other"), 0, 1, (), (), b""
    )
    for spec, user in (
        (SshHop(("one", "two:2222"), entra_certificate=True), "ops@contoso.com"),
        (SshHop(("one", "me@two:2222"), entra_certificate=True), "me"),
        (SshHop(("one", "two:2222"), user="me", entra_certificate=True), "me"),
    ):
        dial = SshDial(spec, context, profile="p", policy="strict")
        server = dial.named_by(dial.servers[1], certificate)
        assert server == Endpoint(user, "two", 2222)
        assert dial.position(server).endswith("server 2 of 2")


def test_the_request_is_the_azure_clis(tmp_path: Path) -> None:
    """n and e are SSH's own bytes of the key: what ssh-keygen writes, cut out of its line."""
    require("ssh-keygen")
    private = rsa.generate_private_key(65_537, 2_048)
    data = request_data(private)
    asked = json.loads(data["req_cnf"])
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    blob = base64.b64decode(line.split()[1])
    n, e = base64.urlsafe_b64decode(asked["n"]), base64.urlsafe_b64decode(asked["e"])
    assert blob.endswith(len(n).to_bytes(4, "big") + n) and e == b"\x01\x00\x01" and len(n) == 257 and n[0] == 0
    assert asked["kid"] == data["key_id"] == hashlib.sha256((asked["n"] + asked["e"]).encode()).hexdigest()
    assert (asked["kty"], data["token_type"]) == ("RSA", "ssh-cert")
    path = tmp_path / "key.pub"
    path.write_bytes(line)
    shown = subprocess.run(["ssh-keygen", "-lf", str(path)], check=True, capture_output=True, text=True).stdout
    assert shown.startswith("2048 ")
