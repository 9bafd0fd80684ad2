"""Stand-ins for the vendor's Arc proxy program that only start, listen, misbehave and end."""

from __future__ import annotations

import sys
from pathlib import Path

from app.arc.program import Program, this_platform

_HEAD = f"""#!{sys.executable} -IS
import os, re, signal, socket, sys, time
ports = [int(port) for port in re.findall(r"Port: ([0-9]+)", open(sys.argv[2]).read())]
def listen(*which):
    return [socket.create_server(("127.0.0.1", port)) for port in which or ports]
def say(path, text="."):
    with open(path, "a") as file:
        file.write(text)
def hear(path):
    with open(path) as file:
        return file.read()
"""

SERVES = "kept = listen()\nsignal.pause()\n"
"""Listens until it is asked to end."""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nkept = listen()\nwhile True: signal.pause()\n"
"""Listens, and does not end when asked to."""


def stand_in(folder: Path, body: str = SERVES, *, version: str = "1.3.035022") -> Program:
    """A program under the vendor's file name that does `body`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / this_platform().file_name(version)
    path.write_text(_HEAD + body)
    path.chmod(0o700)
    return Program(path, version, "arc-proxy")
