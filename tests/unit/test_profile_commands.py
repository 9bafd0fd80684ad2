"""`jumpdeck profiles …` as a person types it: output, errors, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

KUBECONFIG = """
apiVersion: v1
clusters: [{name: a, cluster: {server: "https://x"}}]
users: [{name: u, user: {exec: {command: touch, args: [MARK]}}}]
contexts:
- {name: "Prod/EU west", context: {cluster: a, user: u}}
- {name: "prod-eu-west", context: {cluster: a, user: u}}
- {name: "pods", context: {cluster: a, user: u}}
- {name: "///", context: {cluster: a, user: u}}
- {name: "lost", context: {cluster: b, user: u}}
"""


@dataclass
class Said:
    code: int
    out: str
    err: str


class Desk:
    """Runs the command in folders of its own, without a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config" / "profiles.toml"
        self.file.parent.mkdir(mode=0o700)
        self.kubeconfig = folder / "kube"
        self.kubeconfig.write_text(KUBECONFIG.replace("MARK", str(folder / "mark")))

    def run(self, *words: str, piped: str = "", **environment: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "jumpdeck", "profiles", *words],
            env={**os.environ, "HOME": str(self.folder), **environment},
            capture_output=True, text=True, input=piped, start_new_session=True, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_from_nothing_to_a_listed_profile(desk: Desk) -> None:
    first = desk.run("list")
    assert (first.code, first.out) == (0, "")
    assert "Begin with: jumpdeck profiles import" in first.err
    added = desk.run(
        "add", "staging", "--cluster", f"kubeconfig={desk.kubeconfig},context=pods", "--via", "ssh=ops@jump01",
        "--via", '{ ssh = "inner", password = true }', "--tag", "production", "--title", "Staging \\ x", "-n", "a,b",
    )  # fmt: skip
    assert added.code == 0, added.err
    assert desk.run("list").out.splitlines() == [
        "NAME      WAY         CLUSTER        TAGS         TITLE",
        "staging   ssh > ssh   context pods   production   Staging \\ x",
    ]
    assert desk.run("list", "-o", "name").out == "staging\n"
    assert json.loads(desk.run("list", "-o", "json").out)[0]["way"] == "ssh > ssh"
    shown = tomllib.loads(desk.run("show", "staging").out)["profile"]["staging"]
    assert shown["via"] == [{"ssh": "ops@jump01"}, {"ssh": "inner", "password": True}]
    assert shown["namespaces"] == ["a", "b"]
    assert json.loads(desk.run("show", "staging", "-o", "json").out)["file"] == str(desk.file)
    assert desk.run("check").out == "1 profile: no problem found\n"


def test_imports_contexts_and_runs_nothing(desk: Desk) -> None:
    dry = desk.run("import", "--kubeconfig", str(desk.kubeconfig), "--dry-run")
    assert dry.code == 0 and not desk.file.exists()
    assert list(tomllib.loads(dry.out)["profile"]) == ["prod-eu-west", "prod-eu-west-2", "pods-cluster"]
    done = desk.run("import", KUBECONFIG=str(desk.kubeconfig))
    assert "added prod-eu-west, prod-eu-west-2, pods-cluster" in done.err
    assert "left out ///: no name can be made of it" in done.err
    assert "left out lost: its cluster or user is not in ~/kube" in done.err
    assert "it is there already, as pods-cluster" in desk.run("import", KUBECONFIG=str(desk.kubeconfig)).err
    assert desk.run("import", "--kubeconfig", str(desk.kubeconfig), "--context", "nix").code == 3
    assert desk.run("check").code == 0
    assert not (desk.folder / "mark").exists()


def test_import_of_a_broken_kubeconfig_says_where(desk: Desk) -> None:
    desk.kubeconfig.write_text("a: &x 1\nb: *x\n")
    done = desk.run("import", "--kubeconfig", str(desk.kubeconfig))
    assert done.code == 3
    assert "[JD-PROFILE-YAML]" in done.err and "line 2: aliases" in done.err


def test_export_leaves_defaults_behind_and_import_takes_it_up_again(desk: Desk) -> None:
    desk.file.write_text(
        '[defaults]\nssh-user = "me"\nsign-in = "browser"\n[hop.j]\nssh = "jump"\n'
        '[profile.a]\ncluster = { server = "https://x" }\nvia = ["j"]\n'
        '[profile.b]\ncluster = { server = "https://y" }\n'
    )
    everything = desk.run("export").out
    assert "me" not in everything.replace("name", "") and "browser" not in everything
    assert 'via = [{ ssh = "jump" }]' in everything
    assert list(tomllib.loads(desk.run("export", "b").out)["profile"]) == ["b"]
    (desk.folder / "team.toml").write_text(everything)
    desk.file.write_text("# mine\n[profile.a]\ncluster = { server = 'https://mine' }\n")
    done = desk.run("import", str(desk.folder / "team.toml"), "--prefix", "")
    assert "added a-2, b" in done.err
    assert desk.file.read_text().startswith("# mine\n")
    assert desk.run("import", "-", "--prefix", "x-", piped=everything).code == 0
    assert desk.run("list", "-o", "name").out.split() == ["a", "a-2", "b"]  # the same again is left out
    desk.file.write_text("")
    assert "added a, b" in desk.run("import", "-", piped=everything).err
    assert desk.run("export").out == everything


def test_what_is_piped_in_has_an_end_and_a_shape(desk: Desk) -> None:
    long = desk.run("import", "-", piped="#" * (1 << 20) + "\n")
    assert long.code == 3 and "JD-PROFILE-TOO-LARGE" in long.err
    odd = desk.run("import", "-", piped="[profile.a\n")
    assert odd.code == 3 and "JD-PROFILE-SYNTAX" in odd.err and "standard-input, line 1" in odd.err
    assert not desk.file.exists()


def test_one_bad_profile_hides_no_other(desk: Desk) -> None:
    desk.file.write_text('[profile.bad]\ncluster = 1\n[profile.good]\ncluster = { kubeconfig = "/none" }\n')
    listed = desk.run("list", "-o", "name")
    assert (listed.code, listed.out) == (0, "good\n")
    assert "The profile bad is not valid [JD-PROFILE-FIELD]" in listed.err
    assert desk.run("show", "good").code == 0
    assert desk.run("show", "bad").code == 3
    checked = desk.run("check")
    assert checked.code == 3
    assert checked.out.splitlines() == [
        "The profile bad is not valid [JD-PROFILE-FIELD]",
        "  ~/config/profiles.toml, line 2, [profile.bad]: cluster: a table { … } is expected, not a number",
        "  Correct it there, for instance with: jumpdeck profiles edit",
        "The profile good is not valid [JD-PROFILE-FILE]",
        "  ~/config/profiles.toml, [profile.good]: cluster.kubeconfig: /none does not exist",
        "  Correct the path, or put the file there.",
    ]
    assert desk.run("check", "nix").code == 3


def test_removing_needs_a_yes(desk: Desk) -> None:
    text = '[profile.a]\ncluster = { server = "https://x" }\n'
    desk.file.write_text(text)
    assert desk.run("remove", "a").code == 2
    assert desk.file.read_text() == text
    assert desk.run("remove", "b", "--yes").code == 3
    assert desk.run("remove", "a", "--yes").code == 0
    assert "profile" not in desk.file.read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "JD-USAGE-ARGUMENTS"),
        (("add", "x"), 2, "--cluster"),
        (("add", "x", "--cluster", "x"), 2, "JD-USAGE-TABLE"),
        (("add", "x", "--cluster", "{ server = "), 2, "JD-USAGE-TABLE"),
        (("add", "x", "--cluster", "{ server = 'https://x' }\ny = 1"), 2, "JD-USAGE-TABLE"),
        (("add", "x", "--cluster", "kubeconfig=/k,context"), 2, "JD-USAGE-TABLE"),
        (("add", "x", "--cluster", "server=https://x", "--via", "hub"), 3, "there is no [hop.hub]"),
        (("add", "pods", "--cluster", "server=https://x"), 3, "it is the name of a command"),
        (("add", "a", "--cluster", "server=https://x"), 3, "exists already"),
        (("add", "x", "--cluster", "server=https://x,token=hunter2"), 3, "JD-PROFILE-SECRET"),
        (("show", "nix"), 3, "JD-PROFILE-UNKNOWN"),
        (("import", "x.toml", "--context", "y"), 2, "JD-USAGE-ARGUMENTS"),
        (("import", "none.toml"), 3, "JD-PROFILE-MISSING"),
    ],
)
def test_bad_input_has_its_exit_code_and_changes_nothing(
    desk: Desk, words: tuple[str, ...], code: int, said: str
) -> None:
    text = '[profile.a]\ncluster = { server = "https://x" }\n'
    desk.file.write_text(text)
    done = desk.run(*words)
    assert done.code == code, done.err
    assert said in done.err and "hunter2" not in done.err
    assert desk.file.read_text() == text


@pytest.mark.parametrize("words", [("add", "x", "--cluster", "server=https://x"), ("remove", "a", "--yes"), ("edit",)])
def test_a_newer_file_is_only_read(desk: Desk, words: tuple[str, ...]) -> None:
    text = 'version = 2\n[profile.a]\ncluster = { server = "https://x" }\n'
    desk.file.write_text(text)
    done = desk.run(*words, EDITOR="false")
    assert done.code == 3 and "JD-PROFILE-READ-ONLY" in done.err
    assert desk.file.read_text() == text
    assert desk.run("list", "-o", "name").out == "a\n"


def _editor(desk: Desk, change: str) -> str:
    script = desk.folder / "editor.py"
    script.write_text(
        "import sys, pathlib\npath = pathlib.Path(sys.argv[1])\n"
        f"text = path.read_text()\n{change}\npath.write_text(text)\n"
    )
    return f"{sys.executable} {script}"


def test_an_edit_is_checked_before_it_replaces(desk: Desk) -> None:
    text = '# keep\n[profile.a]\ncluster = { server = "https://x" }\n'
    desk.file.write_text(text)
    assert "nothing changed" in desk.run("edit", VISUAL=_editor(desk, "pass")).err
    bad = desk.run("edit", VISUAL=_editor(desk, "text = text.replace('server', 'servr')"))
    assert bad.code == 3
    assert desk.file.read_text() == text
    kept = desk.folder / bad.err.split("Your text is kept in ~/")[1].strip()
    assert "servr" in kept.read_text()
    good = desk.run("edit", "a", VISUAL=_editor(desk, "text += 'title = \"T\"\\n'"))
    assert good.code == 0, good.err
    assert desk.file.read_text() == text + 'title = "T"\n'
    kept.unlink()
    assert [each.name for each in desk.file.parent.iterdir() if not each.name.startswith(".")] == ["profiles.toml"]


def test_an_edit_can_repair_a_file_that_cannot_be_read(desk: Desk) -> None:
    desk.file.write_text("[profile.a\n")
    assert desk.run("list").code == 3
    done = desk.run(
        "edit", EDITOR=_editor(desk, "text = text.replace('.a', '.a]\\ncluster = {server = \"https://x\"}')")
    )
    assert done.code == 0, done.err
    assert desk.run("list", "-o", "name").out == "a\n"


@pytest.mark.parametrize("editor", ["", "vi", "nano -w"])
def test_an_edit_without_a_terminal_says_so(desk: Desk, editor: str) -> None:
    if os.name != "posix" and not editor:
        return  # the default there has a window
    done = desk.run("edit", VISUAL="", EDITOR=editor)
    assert done.code == 2 and "JD-USAGE-TERMINAL" in done.err and not done.out
    assert not list(desk.file.parent.glob("profiles*"))


def test_a_text_left_by_an_edit_is_removed_a_day_later(desk: Desk) -> None:
    old, young = (desk.file.with_name(f"profiles.edit-{name}.toml") for name in ("old", "young"))
    for path in (old, young):
        path.write_text("")
    os.utime(old, (0, time.time() - 90_000))
    assert desk.run("edit", VISUAL=_editor(desk, "pass")).code == 0
    assert young.exists() and not old.exists()


def test_an_editor_that_fails_is_said(desk: Desk) -> None:
    for editor in ("false", "no-such-editor"):
        done = desk.run("edit", EDITOR=editor)
        assert done.code == 1 and "JD-PROFILE-EDITOR" in done.err
    assert not list(desk.file.parent.glob("profiles*"))


@pytest.mark.parametrize(
    ("deed", "why"), [("path.unlink(); sys.exit(0)", "cannot be read"), ("sys.exit(3)", "exit code 3")]
)
def test_an_editor_that_leaves_no_text_is_said(desk: Desk, deed: str, why: str) -> None:
    desk.file.write_text('[profile.a]\ncluster = { server = "https://x" }\n')
    done = desk.run("edit", VISUAL=_editor(desk, deed))
    assert done.code == 1 and "JD-PROFILE-EDITOR" in done.err and why in done.err
    assert desk.run("list", "-o", "name").out == "a\n"
    assert [each.name for each in desk.file.parent.glob("profiles*")] == ["profiles.toml"]


def test_a_changed_include_is_said_and_the_accepted_copy_used(desk: Desk) -> None:
    team = desk.folder / "team.toml"
    team.write_text('[profile.a]\ncluster = { server = "https://x" }\n')
    desk.file.write_text(f'include = ["{team}"]\n')
    desk.run("list")
    team.write_text('[profile.a]\ncluster = { server = "https://evil" }\n')
    shown = desk.run("show", "a")
    assert "https://x" in shown.out
    assert (
        "a: an included file changed cluster; the accepted copy is used. To review it: jumpdeck profiles check"
        in shown.err
    )
    assert desk.run("check").code == 0
    assert desk.run("remove", "a", "--yes").code == 3


def test_listing_loads_nothing_heavy(desk: Desk) -> None:
    desk.file.write_text('[profile.a]\ncluster = { server = "https://x" }\n')
    code = (
        "import sys; from app.cli.main import run; run(['profiles', 'list']); "
        "heavy = {'tomlkit', 'yaml', 'aiohttp', 'textual', 'asyncio', 'kubernetes', 'asyncssh', 'shutil', 'hashlib', "
        "'difflib', 'json', 'subprocess'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
