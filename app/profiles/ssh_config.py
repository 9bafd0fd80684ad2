"""Reads hosts out of an SSH client configuration (ssh_config(5)) without letting it decide or run anything (S-21).

Taken are Host, HostName, User, Port, IdentityFile, CertificateFile and ProxyJump. As in OpenSSH the first value wins
and all blocks whose patterns fit are merged. `Match` blocks are passed over whole (they can run commands), other files
are not included, and everything else (ProxyCommand, …) is listed as ignored. No file but the one given is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from app.errors import ProfileError
from app.files import read_private, shown
from app.profiles import patterns
from app.profiles.hops import plain_word
from app.profiles.problem import near_names
from app.records import Record, field
from app.text import clean

MAX_CONFIG_BYTES = 1 << 20
MAX_HOPS = 8
"""Hops in one chain."""
_TAKEN = {
    "hostname": "HostName", "user": "User", "port": "Port", "identityfile": "IdentityFile",
    "certificatefile": "CertificateFile", "proxyjump": "ProxyJump",
}  # fmt: skip
_WHY_IGNORED = {
    "proxycommand": "Jumpdeck runs no command to connect",
    "include": "other files are not read; import them by name",
    "match": "its conditions can run commands; the whole block is passed over",
    "serveraliveinterval": "Jumpdeck keeps its connections alive by itself",
    "serveralivecountmax": "Jumpdeck keeps its connections alive by itself",
    "stricthostkeychecking": "host keys are always checked",
    "userknownhostsfile": "host keys are always checked",
    "identityagent": 'name an agent in the profile: agent = "…"',
}
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:\s*=\s*|\s+|$)(.*)")
_TOKEN = re.compile(r"%(.)")


class Option(Record):
    """One line: what it sets, and for which hosts."""

    line: int
    hosts: tuple[str, ...] | None
    """The patterns of its Host block; None before the first block."""
    keyword: str
    """In lower case."""
    values: tuple[str, ...]


class SshHost(Record):
    """One server, as the configuration describes it."""

    alias: str
    """As the person names it."""
    host: str
    port: int = 22
    user: str | None = None
    key: Path | None = None
    certificate: Path | None = None

    @property
    def server(self) -> str:
        """`host[:port]` as a profile has it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == 22 else f"{name}:{self.port}"


class SshConfig(Record):
    """A configuration file as data."""

    path: Path
    options: tuple[Option, ...]
    ignored: tuple[Option, ...] = field(default=())

    def aliases(self) -> list[str]:
        """Hosts that have a name of their own, in the order of the file; patterns and `!names` are none."""
        found = (name for option in self.options if option.keyword == "host" for name in option.values)
        return list(dict.fromkeys(name for name in found if name and not set(name) & set("*?!")))

    def ignored_for(self, aliases: Iterable[str]) -> list[str]:
        """What was ignored of the lines that apply to these hosts, and of Match and Include; a sentence each."""
        wanted = list(aliases)
        lines = []
        for option in self.ignored:
            everywhere = option.hosts is None or option.keyword in ("match", "include")
            if everywhere or any(_applies(option, alias) for alias in wanted):
                why = _WHY_IGNORED.get(option.keyword, "there is nothing like it here")
                lines.append(f"{shown(self.path)}, line {option.line}: {clean(option.values[0])}: {why}")
        return lines

    def first(self, alias: str, keyword: str) -> Option | None:
        """The option that counts for a host: the first that applies."""
        return next((option for option in self.options if option.keyword == keyword and _applies(option, alias)), None)

    def host(self, alias: str) -> SshHost:
        """What the file says of one host. Raises ProfileError when it cannot be used (JD-PROFILE-SSH-CONFIG)."""
        values = {name: self.first(alias, name) for name in _TAKEN}

        def text(name: str) -> str | None:
            option = values[name]
            return option.values[0] if option is not None else None

        user = text("user")
        if user and (wrong := plain_word(user)):
            raise self.wrong(values["user"], f"User: {wrong}")
        host = self._substituted(values["hostname"], {"h": alias}) or alias
        if wrong := patterns.host(host):
            raise self.wrong(values["hostname"], f"`{clean(host)}`: {wrong}")
        port = text("port") or "22"
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
            raise self.wrong(values["port"], f"`{clean(port)}` is no port")
        tokens = {"h": host, "n": alias, "p": port, "d": str(Path.home()), **({"r": user} if user else {})}
        key = self._path(values["identityfile"], tokens)
        return SshHost(
            alias, host, int(port), user, key, self._path(values["certificatefile"], tokens) if key else None
        )

    def chain(self, alias: str, before: tuple[str, ...] = ()) -> list[SshHost]:
        """The servers to go through to a host, the host last.

        ProxyJump names them in order; only the first of them brings a ProxyJump of its own, as in OpenSSH. Raises
        ProfileError for a loop, or more than `MAX_HOPS`.
        """
        if alias in before or len(before) >= MAX_HOPS:
            way = " > ".join(clean(name) for name in (*before, alias))
            raise self.wrong(self.first(alias, "proxyjump"), f"ProxyJump goes in a circle: {way}")
        target = self.host(alias)
        option = self.first(alias, "proxyjump")
        if option is None or option.values[0].lower() == "none":
            return [target]
        hops: list[SshHost] = []
        for at, jump in enumerate(part.strip() for part in ",".join(option.values).split(",")):
            jump = jump.removeprefix("ssh://").rstrip("/")
            if wrong := patterns.ssh_server(jump):
                raise self.wrong(option, f"ProxyJump `{clean(jump)}`: {wrong}")
            name, port = patterns.ssh_place(jump)
            found = self.chain(name, (*before, alias)) if at == 0 else [self.host(name)]
            last = found[-1]
            named_port = port if port != 22 or jump.endswith(":22") else last.port
            changed = SshHost(last.alias, last.host, named_port, patterns.ssh_user(jump) or last.user,
                              last.key, last.certificate)  # fmt: skip
            hops += [*found[:-1], changed]
        if len(hops) >= MAX_HOPS:
            raise self.wrong(option, f"more than {MAX_HOPS} hops")
        return [*hops, target]

    def wrong(self, option: Option | None, why: str) -> ProfileError:
        """A host that cannot be taken over."""
        place = shown(self.path) + (f", line {option.line}" if option else "")
        hint = "Add it by hand: jumpdeck profiles edit"
        return ProfileError("The SSH host cannot be imported", f"{place}: {why}", hint, code="JD-PROFILE-SSH-CONFIG")

    def _substituted(self, option: Option | None, tokens: dict[str, str]) -> str | None:
        """The value with its `%` tokens filled in. Raises ProfileError for one that means nothing here."""
        if option is None:
            return None
        value = option.values[0]
        known = {**tokens, "%": "%"}
        for token in _TOKEN.findall(value):
            if token not in known:
                raise self.wrong(option, f"%{clean(token)} means nothing here")
        if "${" in value:
            raise self.wrong(option, "variables of the environment are not filled in")
        return _TOKEN.sub(lambda match: known[match.group(1)], value)

    def _path(self, option: Option | None, tokens: dict[str, str]) -> Path | None:
        value = self._substituted(option, tokens)
        if value is None or value.lower() == "none":
            return None
        return Path(os.path.normpath(self.path.parent / Path(value).expanduser()))


def read_ssh_config(path: Path) -> SshConfig:
    """The file as data; nothing in it runs, nothing else is opened. Raises ProfileError when it cannot be read."""
    path = Path(os.path.abspath(path.expanduser()))
    data = read_private(path, limit=MAX_CONFIG_BYTES, what="SSH configuration", shared=True)
    if b"\0" in data:  # UTF-16, as editors of Windows write it: every line of it would be listed as left out
        raise ProfileError("The SSH configuration is not a text in UTF-8", shown(path),
                           "Save the file as UTF-8.", code="JD-PROFILE-SYNTAX")  # fmt: skip
    return parse_ssh_config(data.decode("utf-8-sig", "replace"), path)


def parse_ssh_config(text: str, path: Path) -> SshConfig:
    """The text of a configuration that lies at `path`."""
    options: list[Option] = []
    ignored: list[Option] = []
    hosts: tuple[str, ...] | None = None
    matching = False
    seen: dict[tuple[tuple[str, ...] | None, str], int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        parsed = _LINE.fullmatch(stripped)
        keyword = parsed.group(1).lower() if parsed else ""
        values = split_values(parsed.group(2)) if parsed else ()
        if keyword == "host":
            hosts, matching = values, False
            options.append(Option(number, hosts, keyword, values))
        elif keyword == "match":
            matching = True
            ignored.append(Option(number, None, keyword, ("Match",)))
        elif matching:
            continue
        elif keyword in _TAKEN and values and values[0]:
            repeated = seen.setdefault((hosts, keyword), number) != number
            if repeated and keyword in ("identityfile", "certificatefile"):  # those add up in OpenSSH; a hop has one
                ignored.append(Option(number, hosts, keyword, (f"another {_TAKEN[keyword]}",)))
            options.append(Option(number, hosts, keyword, values))
        else:
            shown_word = parsed.group(1) if parsed else stripped[:40]
            ignored.append(Option(number, hosts, keyword, (shown_word,)))
    return SshConfig(path, tuple(options), tuple(ignored))


def split_values(text: str) -> tuple[str, ...]:
    """The words of a line: quotes keep white space together, ` #` begins a comment."""
    words: list[str] = []
    word, quote, inside = "", "", False
    for at, letter in enumerate(text):
        if quote:
            if letter == quote:
                quote = ""
            else:
                word += letter
        elif letter in "\"'":
            quote, inside = letter, True
        elif letter.isspace():
            if inside:
                words.append(word)
            word, inside = "", False
        elif letter == "#" and not inside and (at == 0 or text[at - 1].isspace()):
            break
        else:
            word, inside = word + letter, True
    if inside:
        words.append(word)
    return tuple(words)


def choose_hosts(config: SshConfig, wanted: Iterable[str]) -> list[str]:
    """The hosts to import: those named, else all. Raises ProfileError with near names (JD-PROFILE-SSH-HOST)."""
    offered = config.aliases()
    chosen = list(dict.fromkeys(wanted))
    for name in chosen:
        if name not in offered:
            near = near_names(name, offered)
            raise ProfileError(
                f"There is no host {clean(name)}",
                f"{shown(config.path)} has: {', '.join(map(clean, offered[:20])) or 'none'}",
                f"Did you mean {' or '.join(map(clean, near))}?" if near else "Name a Host of that file.",
                code="JD-PROFILE-SSH-HOST",
            )
    return chosen or offered


def _applies(option: Option, alias: str) -> bool:
    if option.hosts is None:
        return True
    if any(pattern.startswith("!") and _fits(pattern[1:], alias) for pattern in option.hosts):
        return False
    return any(_fits(pattern, alias) for pattern in option.hosts if not pattern.startswith("!"))


def _fits(pattern: str, alias: str) -> bool:
    """Whether a pattern with `*` and `?` fits. Walks both once, so that no pattern takes long."""
    at = place = 0
    star = mark = -1
    while place < len(alias):
        if at < len(pattern) and pattern[at] in ("?", alias[place]) and pattern[at] != "*":
            at, place = at + 1, place + 1
        elif at < len(pattern) and pattern[at] == "*":
            star, mark, at = at, place, at + 1
        elif star >= 0:
            at, mark = star + 1, mark + 1
            place = mark
        else:
            return False
    return all(letter == "*" for letter in pattern[at:])
