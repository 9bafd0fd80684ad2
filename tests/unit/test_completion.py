"""Completion scripts are valid for their shells and offer what exists."""

from __future__ import annotations

import argparse
import shutil
import subprocess

import pytest

from app.cli import completion
from app.cli.main import COMMANDS


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert completion.run(argparse.Namespace(shell=shell)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", sorted(completion.SCRIPTS))
def test_every_command_is_offered(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert "@" not in text.replace("@($", "").replace("@(jumpdeck", "").replace("@()", "")
    for name in COMMANDS:
        assert name in text


def test_bash_completes_commands(capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    lines = script("bash", capsys) + '\nCOMP_WORDS=(jumpdeck po); COMP_CWORD=1; _jumpdeck; echo "${COMPREPLY[@]}"\n'
    done = subprocess.run([bash, "--norc"], input=lines, capture_output=True, text=True, check=True, env={"PATH": ""})
    assert done.stdout.split() == ["pods"]
