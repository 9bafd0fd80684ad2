"""The Azure CLI's sign-in, by stand-in programs on PATH: slow, failing, not signed in, hanging with a grandchild."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from pathlib import Path

import pytest

from app.errors import Recovery, SignInError
from app.identity.azure_cli import AzureCliSource
from app.identity.identities import SharedIdentity
from app.identity.source import About
from tests.entra import AKS, ARM, Entra

LIMIT = 20.0


class Az:
    """A program `az` on PATH that does what `script` says; it writes its arguments and counts its calls."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self.log = folder / "calls"
        monkeypatch.setenv("PATH", f"{self.folder}{os.pathsep}{os.environ['PATH']}")
        self.emulator = Entra()

    def does(self, script: str) -> None:
        path = self.folder / "az"
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{self.log}"\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def gives(self, *, upn: str = "ops@contoso.com", life: float = 3600, **fields: object) -> str:
        token = self.emulator.token("az", upn=upn)
        said = {"accessToken": token, "expires_on": int(time.time() + life), **fields}
        (self.folder / "answer").write_text(json.dumps(said))
        self.does(f'cat "{self.folder}/answer"')
        return token

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Az:
    return Az(tmp_path, monkeypatch)


def identity(limit: float = LIMIT, **about: str) -> SharedIdentity:
    return SharedIdentity(AzureCliSource(About("azure-cli", profile="prod-weu", **about), limit=limit))


async def failure(found: SharedIdentity, **options: object) -> SignInError:
    with pytest.raises(SignInError) as caught:
        await found.token(ARM, **options)
    assert (caught.value.exit_code, caught.value.layer) == (4, "sign-in")
    return caught.value


async def test_az_is_asked_once_and_its_token_kept(az: Az) -> None:
    given = az.gives()
    found = identity(tenant="contoso.com")
    tokens = await asyncio.gather(*(found.token(ARM) for _ in range(20)))
    assert {token.value.reveal() for token in tokens} == {given}
    assert az.calls == [
        "account get-access-token --output json --resource https://management.test/ --tenant contoso.com"
    ]
    assert found.label == "ops@contoso.com"
    await found.token(AKS)
    assert az.calls[1].endswith("--resource 6dae42f8-4368-4678-94ff-3960e28e3630 --tenant contoso.com")


async def test_an_old_az_tells_the_local_time(az: Az) -> None:
    az.gives()
    said = {"accessToken": "a.b.c", "expiresOn": "2031-01-02 03:04:05.000006"}
    (az.folder / "answer").write_text(json.dumps(said))
    token = await identity().token(ARM)
    assert time.strftime("%Y-%m-%d %H:%M", time.localtime(token.expires_at)) == "2031-01-02 03:04"


@pytest.mark.parametrize(
    ("script", "code", "recovery", "hint"),
    [
        ("echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1", "JD-SIGN-IN-AZ-LOGIN",
         Recovery.NEEDS_PERSON, "az login --tenant contoso.com"),
        ("echo 'AADSTS70043: The refresh token has expired. Trace ID: 1' >&2; exit 1", "JD-SIGN-IN-EXPIRED",
         Recovery.NEEDS_PERSON, "az login --tenant contoso.com"),
        ("echo 'AADSTS50020: User account does not exist in tenant. run: az login' >&2; exit 1",
         "JD-SIGN-IN-WRONG-TENANT", Recovery.NEEDS_PERSON, "az login --tenant contoso.com"),
        ("echo 'ERROR: something broke' >&2; exit 3", "JD-SIGN-IN-AZ", Recovery.PERMANENT, "az account"),
        ("echo '{}'", "JD-SIGN-IN-AZ", Recovery.PERMANENT, "az account"),
        ("head -c 300000 /dev/zero", "JD-SIGN-IN-AZ", Recovery.PERMANENT, "az account"),
    ],
)  # fmt: skip
async def test_what_az_says_when_it_cannot(az: Az, script: str, code: str, recovery: Recovery, hint: str) -> None:
    az.does(script)
    error = await failure(identity(tenant="contoso.com"))
    assert (error.code, error.recovery) == (code, recovery)
    assert hint in error.hint


async def test_an_az_that_hangs_is_ended_with_its_grandchild(az: Az, tmp_path: Path) -> None:
    pid = tmp_path / "grandchild"
    az.does(f'sh -c \'echo $$ > "{pid}"; exec sleep 600\' &\nwait')
    for limit in (1.0, 15.0):  # on a busy machine the grandchild has not come so far within the first
        error = await failure(identity(limit=limit))
        assert (error.code, error.recovery) == ("JD-SIGN-IN-TIMEOUT", Recovery.TRANSIENT)
        if pid.exists() and pid.read_text():
            break
    await _gone(int(pid.read_text()))


async def test_a_grandchild_ends_when_nobody_waits_any_more(az: Az, tmp_path: Path) -> None:
    os.mkfifo(begun := tmp_path / "begun")
    az.does(f'sh -c \'echo $$ > "{begun}"; exec sleep 600\' &\nwait')
    found = identity()
    call = asyncio.ensure_future(found.token(ARM))
    pid = int(await asyncio.to_thread(begun.read_text))
    call.cancel()
    await asyncio.wait({call})
    await found.aclose()
    await _gone(pid)


async def _gone(pid: int) -> None:
    """Wait until a process has ended (or waits for init to take it)."""
    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    async with asyncio.timeout(LIMIT):
        while not await asyncio.to_thread(ended):
            await asyncio.to_thread(os.sched_yield)


async def test_no_az_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "az").write_text("#!/bin/sh\n")
    (tmp_path / "az").chmod(0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".{os.pathsep}{os.pathsep}{tmp_path / 'nothing'}")
    assert (await failure(identity())).code == "JD-SIGN-IN-AZ-MISSING"


async def test_another_account_than_the_profiles_is_refused(az: Az) -> None:
    az.gives(upn="somebody@contoso.com")
    error = await failure(identity(account="ops@contoso.com"))
    assert (error.code, error.recovery) == ("JD-SIGN-IN-ACCOUNT", Recovery.NEEDS_PERSON)
    assert "somebody@contoso.com" in error.detail


async def test_a_claims_challenge_needs_az_login(az: Az) -> None:
    az.gives()
    found = identity()
    error = await failure(found, fresh=True, claims='{"access_token":{}}')
    assert error.code == "JD-SIGN-IN-MFA" and error.recovery is Recovery.NEEDS_PERSON
    assert "--claims-challenge" in error.hint and az.calls == []


async def test_no_token_shows_in_what_is_said(az: Az) -> None:
    token = az.emulator.token("az")
    for script in (f'echo \'"accessToken": "{token}"\' >&2; exit 1', f"echo 'bad {token}' >&2; exit 1",
                   f"echo '{{\"accessToken\": \"{token}\"'"):  # fmt: skip
        az.does(script)
        error = await failure(identity())
        text = "\n".join((*error.lines(), repr(error), repr(error.__cause__), repr(error.__context__)))
        assert not [made for made in az.emulator.made if made in text]
