"""`exec` by command invoke: kubectl and helm with the files that they name; all else is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.azure.run_command import FILES_LIMIT
from app.cli.invoke_exec import Attached, check, shown_output
from app.errors import UsageError
from app.profiles.model import AksCluster, InvokeHop, Profile
from tests.azure_world import azure_world
from tests.running import jumpdeck

PROFILE = Profile("by-invoke", AksCluster("/subscriptions/x"), via=(InvokeHop(),))


def attached(line: str, folder: Path) -> tuple[str, dict[str, bytes]]:
    made = Attached(line.split(), folder)
    return " ".join(made.command), made.files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in (("a.yaml", "A"), ("sub/a.yaml", "B"), ("chart/Chart.yaml", "C"), ("chart/t/x.yaml", "D"),
                       ("chart/.git/config", "no")):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_files_go_along_under_flat_names(files: Path) -> None:
    line, found = attached(f"kubectl apply -f a.yaml --filename={files}/sub/a.yaml -f a.yaml", files)
    assert line == "kubectl apply -f a.yaml --filename=2-a.yaml -f a.yaml"
    assert found == {"a.yaml": b"A", "2-a.yaml": b"B"}
    line, found = attached("helm upgrade x ./chart --values sub/a.yaml,a.yaml", files)
    assert line == "helm upgrade x chart --values a.yaml,2-a.yaml"
    assert found == {"chart/Chart.yaml": b"C", "chart/t/x.yaml": b"D", "a.yaml": b"B", "2-a.yaml": b"A"}
    line, found = attached("helm install x .", files / "chart")
    assert (line, set(found)) == ("helm install x .", {"Chart.yaml", "t/x.yaml"})


def test_what_is_no_file_stays_as_it_is(files: Path) -> None:
    for line in (
        "kubectl apply -f https://example.com/a.yaml",
        "kubectl get pods -l app=a.yaml",
        "kubectl exec web -- cat -f a.yaml",
        "helm list -A",
    ):
        assert attached(line, files) == (line, {})


def test_too_much_and_what_is_not_there_is_refused(files: Path) -> None:
    (files / "big.yaml").write_bytes(bytes(FILES_LIMIT + 1))
    for line, why in (("kubectl apply -f big.yaml", "1 MiB"), ("kubectl apply -f nosuch.yaml", "No such file")):
        with pytest.raises(UsageError) as caught:
            attached(line, files)
        assert caught.value.code == "JD-INVOKE-FILES" and why in caught.value.detail


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("k9s", "JD-INVOKE-PROGRAM"),
        ("/usr/bin/bash -c ls", "JD-INVOKE-PROGRAM"),
        ("kubectl logs -f web", "JD-INVOKE-NO-STREAM"),
        ("kubectl get pods -w", "JD-INVOKE-NO-STREAM"),
        ("kubectl get pods --watch=true", "JD-INVOKE-NO-STREAM"),
        ("kubectl exec -it web -- sh", "JD-INVOKE-NO-STREAM"),
        ("kubectl port-forward web 80", "JD-INVOKE-NO-STREAM"),
        ("kubectl edit deploy web", "JD-INVOKE-NO-STREAM"),
        ("kubectl apply -f x.yaml", ""),
        ("kubectl exec web -- top -i", ""),
        ("kubectl get pods --watch=false", ""),
        ("/usr/local/bin/helm upgrade x ./x --wait -i", ""),
    ],
)
def test_what_needs_a_stream_or_another_program_is_refused(line: str, code: str) -> None:
    if not code:
        check(PROFILE, line.split())
        return
    with pytest.raises(UsageError) as caught:
        check(PROFILE, line.split())
    assert (caught.value.code, int(caught.value.exit_code)) == (code, 2)


def records(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*.jsonl"))


async def test_exec_runs_in_the_lab_with_its_output_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n")
    async with azure_world() as portal:
        where = {"JUMPDECK_CONFIG_DIR": str(portal.lab.config_dir), "XDG_STATE_HOME": str(tmp_path / "state")}
        done = await jumpdeck("exec", "lab-invoke", "--", "kubectl", "get", "pods", "-n", "default", **where)
        assert (done.code, "web" in done.out) == (0, True), done
        done = await jumpdeck("exec", "lab-invoke", "--", "kubectl", "get", "pod", "nosuch", **where)
        assert done.code == 1 and 'pods "nosuch" not found' in done.out
        name = str(tmp_path / "map.yaml")
        done = await jumpdeck("exec", "lab-invoke", "--", "kubectl", "apply", "--dry-run=client", "-f", name, **where)
        assert done.out == "configmap/settings created (dry run)\n", done
        sent = list(portal.lab.azure.invoke.commands)
        assert sent[2] == "kubectl apply --dry-run=client -f map.yaml" and len(sent) == 3
        for words in (("exec", "lab-invoke", "--", "k9s"), ("pods", "lab-invoke", "-w"), ("connect", "lab-invoke")):
            done = await jumpdeck(*words, **where)
            assert done.code == 2 and "JD-INVOKE-" in done.err, done
        assert portal.lab.azure.invoke.commands == sent
        audit = records(tmp_path)
        assert audit.count('"event":"command-invoke"') == 3 and '"verb":"apply"' in audit


async def test_standard_input_goes_along_as_a_file(tmp_path: Path) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: typed}\n"
    async with azure_world() as portal:
        where = {"JUMPDECK_CONFIG_DIR": str(portal.lab.config_dir), "XDG_STATE_HOME": str(tmp_path / "state")}
        words = ("exec", "lab-invoke", "--", "kubectl", "apply", "--dry-run=client", "-f", "-")
        done = await jumpdeck(*words, stdin=text, **where)
        assert done.out == "configmap/typed created (dry run)\n", done


def test_output_is_passed_on_into_a_pipe_and_harmless_on_a_terminal() -> None:
    assert shown_output("a\x1b]52;c;x\x07b\n", terminal=False) == "a\x1b]52;c;x\x07b\n"
    assert shown_output("a\x1b]52;c;x\x07b\n", terminal=True) == "a␛]52;c;x␇b\n"
