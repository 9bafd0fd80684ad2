"""`jumpdeck secrets` against a Secret Service, through keyring's own backend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.peers import require_linux
from tests.running import Done, jumpdeck
from tests.secret_service import SecretService
from tests.terminal import Terminal

PROFILES = """
version = 1
[profile.shop-edge]
cluster = { server = "https://127.0.0.1:1", auth = "token" }
[profile.boxed]
cluster = { server = "https://127.0.0.1:1", auth = "token" }
via = [{ ssh = "ops@jump01", password = true }]
[profile.plain]
cluster = { kubeconfig = "/k" }
"""


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path) -> None:
    require_linux("elsewhere this would reach the person's own store")
    (tmp_path / "config").mkdir(mode=0o700)
    (tmp_path / "config" / "profiles.toml").write_text(PROFILES)


def settings(service: SecretService) -> dict[str, str]:
    return {"DBUS_SESSION_BUS_ADDRESS": service.address, "PYTHON_KEYRING_BACKEND": ""}


async def run(service: SecretService, *words: str, stdin: bytes | None = None) -> Done:
    return await jumpdeck("secrets", *words, stdin=stdin, **settings(service))


async def test_a_piped_secret_is_kept_listed_replaced_and_removed(tmp_path: Path) -> None:
    async with SecretService(tmp_path) as service:
        assert await run(service, "set", "token", "shop-edge", stdin=b"  sentinel\n\n") == Done(0, "", "")
        assert service.services() == ["jumpdeck: token shop-edge"]
        assert [secret for _, secret in service.items.values()] == [b"sentinel"]
        assert (await run(service, "set", "shop-edge", stdin=b"newer")).code == 0
        assert [secret for _, secret in service.items.values()] == [b"newer"]
        assert (await run(service, "list", "-o", "name")).out == "token shop-edge\n"
        table = await run(service, "list")
        assert table.out == "NAME              KEPT IN\ntoken shop-edge   Secret Service\n"
        assert table.err == "jumpdeck: the store here is Secret Service\n"
        assert json.loads((await run(service, "list", "-o", "json")).out) == {
            "store": {"name": "Secret Service", "usable": True, "why": ""},
            "secrets": [{"name": "token shop-edge", "kind": "token", "kept-in": "Secret Service"}],
        }
        near = await run(service, "remove", "token", "shop-edg")
        assert near.code == 7 and "Near: token shop-edge" in near.err
        assert await run(service, "remove", "shop-edge") == Done(0, "", "")
        assert not service.items
        assert (await run(service, "remove", "token", "shop-edge")).code == 7


async def test_names_are_completed_and_checked(tmp_path: Path) -> None:
    key = tmp_path / "home" / "id_ed25519"
    key.write_text("key")
    cases = [
        (("password", "ops@jump01"), 0, ""),
        (("password", "ops@[fd00::1]:2222"), 0, ""),
        (("passphrase", "~/id_ed25519"), 0, ""),
        (("passphrase", "~/id_ed2551"), 7, "Near: id_ed25519"),
        (("token", "shop-edgy"), 3, "Did you mean shop-edge?"),
        (("token", "plain"), 0, "nothing asks for it yet"),
        (("boxed",), 2, "jumpdeck secrets set token boxed or jumpdeck secrets set password ops@jump01:22"),
        (("plain",), 2, "needs no secret"),
        (("pasword", "x"), 2, "Did you mean password?"),
        (("password",), 2, "what the password is for is missing"),
        (("password", "jo:hunter2@jump01:x"), 2, "no SSH server"),
    ]
    async with SecretService(tmp_path) as service:
        for words, code, said in cases:
            done = await run(service, "set", *words, stdin=b"sentinel")
            assert (done.code, done.out) == (code, ""), (words, done)
            assert said in done.err and "sentinel" not in done.err
        assert service.services() == [
            f"jumpdeck: passphrase {key}", "jumpdeck: password ops@[fd00::1]:2222", "jumpdeck: password ops@jump01:22",
            "jumpdeck: token plain",
        ]  # fmt: skip


async def test_nothing_given_keeps_nothing(tmp_path: Path) -> None:
    async with SecretService(tmp_path) as service:
        for data in (b"", b" \n", b"\xff\xfe"):
            assert (await run(service, "set", "shop-edge", stdin=data)).code == 2
        key = await run(service, "set", "shop-edge", stdin=b"-----BEGIN RSA PRIVATE KEY-----\nsentinel")
        assert key.code == 4 and "private key" in key.err and "sentinel" not in key.err
        assert not service.items


async def test_a_typed_secret_is_hidden_and_said_to_be_kept(tmp_path: Path) -> None:
    async with SecretService(tmp_path) as service:
        shown = Terminal("secrets", "set", "shop-edge", **settings(service))
        try:
            await shown.until(lambda written: b"Token for shop-edge: " in written)
            shown.type(b"sentinel\r")
            assert await shown.ended() == 0
            await shown.until(lambda written: b"kept token shop-edge in Secret Service" in written)
            assert b"sentinel" not in shown.written and shown.modes() == shown.modes_before
        finally:
            shown.close()
        assert len(service.items) == 1
        shown = Terminal("secrets", "set", "shop-edge", "--no-input", **settings(service))
        try:
            assert await shown.ended() == 4
        finally:
            shown.close()


async def test_a_service_that_waits_for_a_person_is_given_up(tmp_path: Path) -> None:
    """The probe's five seconds pass here; the process ends although its thread still waits."""
    async with SecretService(tmp_path, silent=True) as service:
        done = await run(service, "set", "shop-edge", stdin=b"sentinel")
        assert (done.code, done.out) == (4, "")
        assert "it did not answer within 5 s" in done.err


async def test_a_stored_token_serves_a_profile_without_a_question(tmp_path: Path) -> None:
    async with SecretService(tmp_path) as service:
        without = await jumpdeck("pods", "shop-edge", "--no-input", **settings(service))
        assert without.code in (4, 5)
        await run(service, "set", "shop-edge", stdin=b"sentinel")
        done = await jumpdeck("pods", "shop-edge", "--no-input", "--connect-timeout", "20", **settings(service))
        assert (done.code, "JD-TCP-REFUSED" in done.err) == (5, True)
