"""What can be typed after `:`, and what is meant by it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from app.errors import UsageError
from app.profiles import patterns
from app.text import clean


@dataclass(frozen=True, slots=True)
class Command:
    """A command with the other names by which newcomers know it."""

    name: str
    help: str
    aliases: tuple[str, ...] = ()
    argument: str = ""


COMMANDS = (
    Command("pods", "the pods, of a namespace when one is named", ("po", "pod"), "[NAMESPACE]"),
    Command("ns", "one namespace, or all", ("namespace", "namespaces"), "NAME|all"),
    Command("profile", "open a profile, or go to it", ("ctx", "context", "open"), "NAME"),
    Command("profiles", "go to the list of profiles", ("contexts",)),
    Command("logs", "the log of the pod under the cursor", ("log",)),
    Command("previous", "the log of the instance before", ("prev",)),
    Command("describe", "describe the pod under the cursor", ("desc",)),
    Command("route", "the way in, hop by hop, with times and bytes", ("hops",)),
    Command("whoami", "whom the cluster will see and the roles to ask for, also for group:ID …", ("who",), "[WHOM]"),
    Command("reload", "read the profile file again; open sessions run on"),
    Command("retry", "try to connect at once; with command invoke, fetch again", ("reconnect", "refresh")),
    Command("close", "close this session", ("disconnect",)),
    Command("theme", "dark or light", (), "dark|light"),
    Command("help", "keys and commands", ("h", "?")),
    Command("quit", "leave Jumpdeck", ("q", "q!", "exit")),
)
_BY_NAME = {name: command.name for command in COMMANDS for name in (command.name, *command.aliases)}


def parse_command(line: str, profiles: tuple[str, ...] = ()) -> tuple[str, str]:
    """The command's own name and its argument. A profile's name alone opens it.

    Raises UsageError: with near names, or where the argument cannot be what the command takes.
    """
    name, _, argument = line.strip().lstrip(":").strip().partition(" ")
    if not name:
        return "", ""
    if name in _BY_NAME:
        return _checked(_BY_NAME[name], argument.strip())
    if name in profiles:
        return "profile", name
    near = get_close_matches(name, [*_BY_NAME, *profiles], n=3)
    hint = f"Did you mean {', '.join(near)}?" if near else "? lists all commands."
    raise UsageError(f"No command is called {clean(name)[:40]}", "", hint, code="JD-CONSOLE-COMMAND")


def _checked(name: str, argument: str) -> tuple[str, str]:
    said = clean(argument)[:40]
    if name in ("ns", "pods") and argument not in ("", "all", "*") and not re.fullmatch(patterns.NAMESPACE, argument):
        raise UsageError(f"No namespace can be called {said}", "a name has small letters, digits and -",
                         ":ns NAME, or :ns all.", code="JD-CONSOLE-ARGUMENT")  # fmt: skip
    if name == "theme" and argument not in ("dark", "light"):
        title = f"No theme is called {said}" if said else "Which theme?"
        raise UsageError(title, "there are two", ":theme dark, or :theme light.", code="JD-CONSOLE-ARGUMENT")
    return name, argument
