"""The system's store: which backends count, what a probe must show, what fits, and where names are noted."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from app.errors import NotFoundError, SignInError
from app.secrets.dpapi import DpapiFiles
from app.secrets.secret import Secret
from app.secrets.store import BACKENDS, FILE_LABEL, Backend, OsStore, load_backend
from tests import vaults
from tests.running import jumpdeck

NAME = "password ops@jump01:22"


def backend(kind: str, limit: int | None = None) -> Backend:
    return Backend(f"tests.vaults.{kind}", kind, "here", limit)


def store_of(*kinds: str, limit: int | None = None, files: DpapiFiles | None = None, patience: float = 30.0) -> OsStore:
    found = [backend(kind, limit) for kind in kinds]
    return OsStore(found, system="here", files=files, probe_limit=patience, call_limit=patience)


@pytest.fixture(autouse=True)
def plain_keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of keyring's own, empty vaults."""
    monkeypatch.delenv("PYTHON_KEYRING_BACKEND", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    for vault in (vaults.MemoryVault, vaults.SmallVault, vaults.LesserVault, vaults.StickyVault):
        vault.entries.clear()


def test_the_allow_list_names_four_backends() -> None:
    assert [each.path.removeprefix("keyring.backends.") for each in BACKENDS] == [
        "Windows.WinVaultKeyring", "macOS.Keyring", "SecretService.Keyring", "kwallet.DBusKeyring",
    ]  # fmt: skip


async def test_a_store_that_passes_the_probe_keeps_secrets_and_the_list_holds_names_only(tmp_path: Path) -> None:
    store = store_of("MemoryVault")
    assert (await store.status()).usable
    assert not vaults.MemoryVault.entries, "the probe leaves nothing"
    assert await store.get(NAME) is None
    assert await store.set(NAME, Secret("sentinel")) == "MemoryVault"
    assert await store.get(NAME) == Secret("sentinel")
    assert [(each.name, each.place) for each in await store.names()] == [(NAME, "MemoryVault")]
    assert list(vaults.MemoryVault.entries) == [(f"jumpdeck: {NAME}", "jumpdeck")]
    index = tmp_path / "state" / "secrets.json"
    assert json.loads(index.read_text()) == {"version": 1, "stored": {NAME: "tests.vaults.MemoryVault"}}
    assert stat.S_IMODE(index.stat().st_mode) == 0o600
    await store.remove(NAME)
    assert not vaults.MemoryVault.entries and await store.get(NAME) is None
    with pytest.raises(NotFoundError) as caught:
        await store.remove(NAME)
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-SECRET-UNKNOWN", 7)


async def test_an_entry_that_somebody_removed_in_the_store_can_be_removed_here() -> None:
    store = store_of("MemoryVault")
    await store.set(NAME, Secret("x"))
    vaults.MemoryVault.entries.clear()
    assert await store.get(NAME) is None
    await store.remove(NAME)
    assert await store.names() == []


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("NullVault", "does not return what was written"),
        ("StickyVault", "does not forget what was deleted"),
        ("AbsentVault", "no ␛[31mdaemon"),
        ("Missing", "has no attribute"),
    ],
)
async def test_what_fails_the_probe_is_no_store(kind: str, why: str) -> None:
    store = store_of(kind)
    status = await store.status()
    assert not status.usable and why in status.why and kind in status.why
    with pytest.raises(SignInError) as caught:
        await store.set(NAME, Secret("sentinel"))
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-SECRET-NO-STORE", 4)
    assert "nothing was kept" in caught.value.detail


async def test_the_preferred_usable_backend_is_taken_and_an_entry_is_read_where_it_lies() -> None:
    """As keyring's chainer does, but with members of the allow-list alone."""
    await store_of("LesserVault").set(NAME, Secret("old"))
    store = store_of("AbsentVault", "LesserVault", "NullVault", "MemoryVault")
    assert (await store.status()).label == "MemoryVault"
    assert await store.get(NAME) == Secret("old")
    await store.set(NAME, Secret("new"))
    assert await store.get(NAME) == Secret("new")
    assert not vaults.LesserVault.entries, "one secret lies in one place"


async def test_a_store_that_hangs_is_given_up_within_the_limit() -> None:
    status = await store_of("HangingVault", patience=0.05).status()
    assert not status.usable and "did not answer" in status.why
    await store_of("MemoryVault").set(NAME, Secret("x"))
    index_says = OsStore([Backend("tests.vaults.MemoryVault", "m", "here")], system="here", call_limit=30.0)
    assert await index_says.get(NAME) == Secret("x")


async def test_a_hanging_store_does_not_hold_up_the_end_of_the_process() -> None:
    script = (
        "import asyncio\n"
        "from app.secrets.store import Backend, OsStore\n"
        "store = OsStore([Backend('tests.vaults.HangingVault', 'h', 'here')], system='here', probe_limit=0.05)\n"
        "print(asyncio.run(store.status()).why)\n"
    )
    process = await _python(script)
    assert process == (0, "it did not answer within 0.05 s; does it wait to be unlocked?\n")


async def _python(script: str, **environment: str) -> tuple[int, str]:
    import asyncio

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment},
        cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.parametrize(
    "named",
    [
        "keyring.backends.null.Keyring",
        "keyring.backends.fail.Keyring",
        "keyrings.alt.file.PlaintextKeyring",
        "evil.Vault",
    ],
)
async def test_a_backend_that_the_environment_or_a_file_names_is_never_loaded(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = tmp_path / "touched"
    (tmp_path / "evil.py").write_text(f"open({str(touched)!r}, 'w')\nclass Vault: priority = 99\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", named)
    status = await store_of("MemoryVault").status()
    assert not status.usable and status.why == f"PYTHON_KEYRING_BACKEND names {named}, which is not a safe store"
    monkeypatch.delenv("PYTHON_KEYRING_BACKEND")
    settings = tmp_path / "xdg" / "python_keyring" / "keyringrc.cfg"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"[backend]\ndefault-keyring={named}\nkeyring-path={tmp_path}\n")
    if sys.platform != "win32":
        status = await store_of("MemoryVault").status()
        assert not status.usable and status.why.startswith(f"keyringrc.cfg names {named}")
    assert not touched.exists() and "evil" not in sys.modules


async def test_the_chainer_stands_for_its_allowed_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.chainer.ChainerBackend")
    assert (await store_of("MemoryVault").status()).usable


def test_properties_from_the_environment_do_not_reach_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APPID", "GET_PASSWORD", "ANYTHING"):
        monkeypatch.setenv(f"KEYRING_PROPERTY_{name}", "evil")
    vault = load_backend(backend("OpenVault"))
    assert "evil" not in vars(vault).values()
    assert (vault.appid, vault.keychain, vault.get_password("a", "b")) == ("ours", None, None)


async def test_windows_takes_1280_characters_and_longer_ones_go_to_a_protected_file(tmp_path: Path) -> None:
    files = DpapiFiles(tmp_path / "protected", _turned, _turned)
    store = store_of("SmallVault", limit=1280, files=files)
    assert await store.set("token a", Secret("x" * 1280)) == "SmallVault"
    assert set(vaults.SmallVault.seen) == {"local machine"}
    assert await store.set("token b", Secret("y" * 1281)) == FILE_LABEL
    assert await store.set("token c", Secret("😀" * 641)) == FILE_LABEL, "two UTF-16 units each"
    assert await store.get("token a") == Secret("x" * 1280)
    assert await store.get("token b") == Secret("y" * 1281)
    (one, two) = (tmp_path / "protected").iterdir()
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    assert b"yyy" not in one.read_bytes() + two.read_bytes()
    assert [each.place for each in await store.names()] == ["SmallVault", FILE_LABEL, FILE_LABEL]
    assert await store.set("token a", Secret("z" * 2000)) == FILE_LABEL
    assert not vaults.SmallVault.entries, "the short one has left the store"
    for name in ("token a", "token b", "token c"):
        await store.remove(name)
    assert not list((tmp_path / "protected").iterdir())


async def test_without_protected_files_a_long_secret_is_refused_before_the_store_sees_it() -> None:
    store = store_of("SmallVault", limit=1280)
    with pytest.raises(SignInError) as caught:
        await store.set(NAME, Secret("x" * 1281))
    assert caught.value.code == "JD-SECRET-LENGTH" and "1280" in caught.value.detail
    assert await store.names() == []


def _turned(data: bytes, entropy: bytes) -> bytes:
    """Stands for CryptProtectData: its own inverse, tied to the entropy."""
    return bytes(byte ^ 0x5A ^ (sum(entropy) & 0xFF) for byte in data)


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc",
        "-----BEGIN RSA PRIVATE KEY-----",
        "PuTTY-User-Key-File-3: x",
        "x" * 20_000,
        "two\nlines",
    ],
    ids=["openssh", "pem", "putty", "long", "lines"],
)
async def test_keys_and_texts_are_not_secrets_that_a_store_may_hold(value: str) -> None:
    with pytest.raises(SignInError) as caught:
        await store_of("MemoryVault").set(NAME, Secret(value))
    assert caught.value.code == "JD-SECRET-FORM"
    assert value[:20] not in "".join(caught.value.lines())


async def test_on_a_machine_without_a_store_the_commands_say_so() -> None:
    for named in ("keyring.backends.null.Keyring", "keyring.backends.fail.Keyring"):
        done = await jumpdeck(
            "secrets", "set", "password", "ops@jump01", stdin=b"sentinel\n", PYTHON_KEYRING_BACKEND=named
        )
        assert (done.code, done.out) == (4, "")
        assert "[JD-SECRET-NO-STORE]" in done.err and "sentinel" not in done.err
        listed = await jumpdeck("secrets", "list", "-o", "json", PYTHON_KEYRING_BACKEND=named)
        store = json.loads(listed.out)["store"]
        assert (listed.code, store["usable"]) == (0, False) and named in store["why"]
