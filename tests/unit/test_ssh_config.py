"""Hosts out of an SSH configuration: OpenSSH's own values, and nothing in the file runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from app.errors import ProfileError
from app.profiles.ssh_config import SshConfig, parse_ssh_config, read_ssh_config, split_values
from app.profiles.ssh_import import from_ssh_config
from tests.peers import require
from tests.running import jumpdeck

CONFIG = """\
# before any Host: for all
ServerAliveInterval 10
Compression yes

Host jump01 j1
    HostName jump01.corp.example
    User = ops
    Port 2222
    IdentityFile "~/.ssh/id ops"
Host inner
  hostname 10.0.0.7
  ProxyJump jump01
  IdentityFile ~/.ssh/%r_%h
Host six
\tHostName fd00::6
\tProxyJump root@inner:2022,j1
Host *.corp !bad.corp
  User corp
  HostName %h.example   # %h is the name as typed
  HostName never.example
Host web.corp bad.corp
  Port 2200
Host a
  ProxyJump b
Host b
  ProxyJump a
Host none
  ProxyJump none
  IdentityFile none
  CertificateFile ~/.ssh/cert
Host *
  User fallback
  ProxyJump never
  ForwardAgent yes
"""


def config(text: str = CONFIG) -> SshConfig:
    return parse_ssh_config(text, Path("/home/jo/.ssh/config"))


def test_names_are_hosts_and_patterns_are_not() -> None:
    assert config().aliases() == ["jump01", "j1", "inner", "six", "web.corp", "bad.corp", "a", "b", "none"]


@pytest.mark.parametrize("alias", ["jump01", "j1", "inner", "six", "web.corp", "bad.corp", "x.corp", "none", "other"])
def test_values_are_those_of_openssh(alias: str, tmp_path: Path) -> None:
    ssh = require("ssh")
    path = tmp_path / "config"
    path.write_text(CONFIG)
    done = subprocess.run([ssh, "-G", "-F", path, alias], capture_output=True, text=True, check=True)
    theirs = dict(reversed([tuple(line.split(" ", 1)) for line in done.stdout.splitlines() if " " in line]))  # type: ignore[misc]
    ours = config().host(alias)
    assert (ours.host, str(ours.port), ours.user) == (theirs["hostname"], theirs["port"], theirs["user"])
    if ours.key is not None:
        home = str(Path.home())
        wanted = (
            theirs["identityfile"].replace("~", home).replace("%r", theirs["user"]).replace("%h", theirs["hostname"])
        )
        assert str(ours.key) == wanted
    jump = config().first(alias, "proxyjump")
    assert (jump.values[0] if jump and jump.values[0] != "none" else "") == theirs.get("proxyjump", "").replace(
        "none", ""
    )


def test_jumps_become_hops_in_order() -> None:
    plain = config(CONFIG.replace("ProxyJump never", ""))
    assert [(hop.server, hop.user) for hop in plain.chain("inner")] == [
        ("jump01.corp.example:2222", "ops"),
        ("10.0.0.7", "fallback"),
    ]
    assert [(hop.server, hop.user) for hop in plain.chain("six")] == [
        ("jump01.corp.example:2222", "ops"),
        ("10.0.0.7:2022", "root"),
        ("jump01.corp.example:2222", "ops"),
        ("[fd00::6]", "fallback"),
    ]
    assert [hop.alias for hop in plain.chain("none")] == ["none"]


@pytest.mark.parametrize("alias", ["a", "b"])
def test_a_circle_of_jumps_is_refused(alias: str) -> None:
    with pytest.raises(ProfileError) as caught:
        config().chain(alias)
    assert caught.value.code == "JD-PROFILE-SSH-CONFIG" and "circle" in caught.value.detail


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Host x\n HostName %C", "%C means nothing here"),
        ("Host x\n HostName ${EVIL}", "variables of the environment"),
        ("Host x\n IdentityFile ${EVIL}/key", "variables of the environment"),
        ("Host x\n HostName a\x1b[31m", "not a host name"),
        ("Host x\n Port 99999", "is no port"),
        ("Host x\n User a@b", "a name without spaces"),
        ("Host x\n ProxyJump a b:c", "not [user@]host[:port]"),
    ],
)
def test_what_cannot_be_taken_over_is_said(text: str, why: str) -> None:
    with pytest.raises(ProfileError) as caught:
        config(text).chain("x")
    assert why in caught.value.detail and "\x1b" not in caught.value.detail


def test_words_of_a_line() -> None:
    assert split_values(' a "b c"\td # e') == ("a", "b c", "d")
    assert split_values('"" x#y "#z"') == ("", "x#y", "#z")
    assert split_values(r"C:\Users\jo\.ssh\id") == (r"C:\Users\jo\.ssh\id",)


def test_what_was_ignored_of_the_chosen_hosts_is_listed_with_its_line() -> None:
    text = (
        CONFIG + "Match host inner\n  User evil\nHost late\n  ProxyCommand nc %h %p\n  \x1b]52;c;x 1\nInclude other\n"
    )
    found = from_ssh_config(config(text.replace("ProxyJump never", "")), ["inner"], "", {})
    shown = "\n".join(found.skipped)
    for word in ("ServerAliveInterval", "Compression", "Match", "Include"):
        line = next(number for number, each in enumerate(text.splitlines(), 1) if each.startswith(word))
        assert f"line {line}: {word}:" in shown
    assert "ProxyCommand" not in shown and "ForwardAgent" in shown
    late = from_ssh_config(config(text.replace("ProxyJump never", "")), ["late"], "", {}).skipped
    assert any("ProxyCommand: Jumpdeck runs no command" in line for line in late)
    assert "\x1b" not in "".join(late)
    assert config(text).host("inner").user == "fallback", "a Match block changes nothing"


def test_equal_hops_are_used_again_and_others_numbered() -> None:
    plain = config(CONFIG.replace("ProxyJump never", ""))
    first = from_ssh_config(plain, ["inner", "jump01"], "", {})
    assert [name for _, name, _ in first.entries] == ["jump01", "inner"]
    assert first.ways == {"inner": ["jump01", "inner"], "jump01": ["jump01"]}
    present = {name: table for _, name, table in first.entries}
    again = from_ssh_config(plain, ["inner"], "", present)
    assert not again.entries and again.ways == {"inner": ["jump01", "inner"]}
    other = from_ssh_config(plain, ["jump01"], "", {"jump01": {"ssh": "elsewhere"}})
    assert other.ways == {"jump01": ["jump01-2"]}


async def test_nothing_of_the_file_runs_or_is_opened(tmp_path: Path) -> None:
    touched, home = tmp_path / "touched", tmp_path / "home"
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh" / "config").write_text(
        f'Match exec "touch {touched}"\n  User x\n'
        f"Host inner\n  HostName 10.0.0.7\n  ProxyCommand touch {touched}\n  KnownHostsCommand /bin/touch {touched}\n"
        f"  IdentityFile ~/.ssh/id_inner\n  PKCS11Provider {touched}.so\nInclude {tmp_path}/missing\n"
    )
    done = await jumpdeck("profiles", "import", "--ssh-config")
    assert (done.code, done.out) == (0, "")
    for word in ("Match", "ProxyCommand", "KnownHostsCommand", "PKCS11Provider", "Include"):
        assert f": {word}: " in done.err
    assert 'through inner: via = ["inner"]' in done.err
    assert not touched.exists()
    text = (tmp_path / "config" / "profiles.toml").read_text()
    assert '[hop.inner]\nssh = "10.0.0.7"\nkey = "~/.ssh/id_inner"' in text


async def test_a_host_becomes_the_way_of_a_new_profile(tmp_path: Path) -> None:
    path = tmp_path / "ssh_config"
    path.write_text(CONFIG.replace("ProxyJump never", ""))
    words = ("profiles", "import", "--ssh-config", str(path), "inner", "--cluster", "server=https://10.0.0.1:6443")
    dry = await jumpdeck(*words, "--dry-run", "--as", "staging")
    assert (dry.code, '[profile.staging]\ncluster = { server = "https://10.0.0.1:6443" }' in dry.out) == (0, True)
    done = await jumpdeck(*words)
    assert (done.code, done.out) == (0, "")
    shown = await jumpdeck("profiles", "show", "inner")
    assert 'ssh = "jump01.corp.example:2222", user = "ops"' in shown.out
    unknown = await jumpdeck("profiles", "import", "--ssh-config", str(path), "iner")
    assert unknown.code == 3 and "Did you mean inner" in unknown.err
    assert (await jumpdeck("profiles", "import", "--cluster", "server=https://x")).code == 2


def test_a_file_of_a_windows_editor_is_read_or_said_to_be_in_another_coding(tmp_path: Path) -> None:
    text = "Host jump01\r\n  HostName jump01.corp\r\nHost inner\r\n  Port 2222\r\n"
    path = tmp_path / "config"
    path.write_bytes(text.encode("utf-8-sig"))
    path.chmod(0o600)
    config = read_ssh_config(path)
    assert [config.host(alias).server for alias in config.aliases()] == ["jump01.corp", "inner:2222"]
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(ProfileError) as caught:
        read_ssh_config(path)
    assert (caught.value.code, int(caught.value.exit_code)) == ("JD-PROFILE-SYNTAX", 3)
    assert caught.value.hint


def test_patterns_take_no_long_time() -> None:
    """Stars are walked, not backtracked over."""
    text = f"Host {'*a' * 200}b\n  User x\nHost {'a' * 2000}\n  Port 1\n"
    assert config(text).host("a" * 20).user is None
