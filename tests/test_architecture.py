"""Boundaries as tests: what a start loads, how large a file may grow, that nothing depends on one machine.

The direction of imports is held by import-linter in `make check`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("app", "screens", "widgets") for path in (ROOT / folder).rglob("*.py"))
HEAVY = {
    "aiohttp", "asyncssh", "azure", "bcrypt", "cryptography", "keyring", "kubernetes", "msal", "requests", "rich",
    "textual", "tomlkit", "truststore", "yaml",
}  # fmt: skip


def loaded_by(*words: str) -> set[str]:
    """Top-level modules in memory after a command line ran."""
    script = (
        "import sys\nfrom app.cli.main import run\ncode = run(sys.argv[1:])\n"
        "sys.stderr.write('\\n'.join(sorted({m.split('.')[0] for m in sys.modules})))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words",
    [("--help",), ("--version",), ("profiles", "list"), ("profiles", "list", "-o", "name"), ("completion", "bash")],
    ids=" ".join,
)
def test_light_commands_load_nothing_heavy(words: tuple[str, ...]) -> None:
    assert not loaded_by(*words) & HEAVY


def test_files_classes_and_functions_stay_small() -> None:
    too_big = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        if (count := text.count("\n")) > 500:
            too_big.append(f"{name}: {count} lines")
        for node in ast.walk(ast.parse(text)):
            lines = getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0) + 1
            if isinstance(node, ast.ClassDef) and lines > 300:
                too_big.append(f"{name}: class {node.name}: {lines} lines")
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines > 50:
                too_big.append(f"{name}: {node.name}: {lines} lines")
    assert not too_big


def test_no_vague_module_names() -> None:
    assert not [path for path in SOURCES if path.stem in ("utils", "helpers", "manager", "misc", "common")]


def test_lock_files_name_no_host() -> None:
    for path in (ROOT / "lock").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text, path.name
        requirements = [line for line in text.splitlines() if "==" in line]
        assert requirements and text.count("--hash=sha256:") >= len(requirements)


def test_runtime_lock_covers_the_dependencies() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {line.split("==")[0] for line in (ROOT / "lock" / "run.txt").read_text().splitlines() if "==" in line}
    for dependency in project["dependencies"]:
        name = dependency.split("=")[0].split(">")[0].split("<")[0].strip()
        assert name in locked


def test_every_module_has_its_layer_and_services_are_named_headless() -> None:
    import tomllib

    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = {contract["name"]: contract for contract in linter["contracts"]}
    layered = {name.strip() for layer in contracts["layers"]["layers"] for name in layer.split(":")}
    top = {f"app.{path.stem}" for path in (ROOT / "app").glob("*.py")} - {"app.__init__"}
    top |= {f"app.{path.parent.name}" for path in (ROOT / "app").glob("*/__init__.py")}
    outside = {"app.lab"}  # it stands beside the layers, and has a contract of its own
    assert top - outside == {name for name in layered if name.startswith("app.")}
    drawing = {"app.__main__", "app.cli", "app.console", "app.messages"}
    assert set(contracts["services are headless"]["source_modules"]) == top - drawing


def test_the_documents_name_only_files_and_codes_that_are_there() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    missing = []
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        rooms = r"`((?:app|screens|widgets|tests|bench|docs|lock)/[\w./-]+)`"
        places = {ROOT / name for name in re.findall(rooms, text)}
        places |= {page.parent / name for name in re.findall(r"\]\(([^)#:]+)[)#]", text)}
        missing += [f"{page.name}: {place}" for place in sorted(places) if not place.exists()]
        named = re.findall(r"`(JD(?:-[A-Z0-9]+){2,})`", text)
        missing += [f"{page.name}: {name}" for name in named if not _told(name, code)]
    assert not missing


def _told(code: str, sources: str) -> bool:
    """Whether a failure has this code; those of a sign-in are made of two parts."""
    return f'"{code}"' in sources or f'"{code.removeprefix("JD-SIGN-IN-")}"' in sources
