"""Log batches become the bytes that are printed: stamps, prefixes, filters, colours, JSON; always cleaned.

The plain case works on whole chunks: a stamp is cut from all lines at once, and one look tells whether a chunk needs
cleaning at all. Only filters, highlights, JSON and templates look at lines one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from operator import itemgetter
from typing import Any

from app.cluster.log_lines import StampReader, last_line
from app.rows import LogBatch, LogSource
from app.text import clean_block, clean_line, is_plain

Fields = dict[str, object]
"""What a line and its pod say, by stern's names: `Message`, `PodName`, …"""

POD_COLOURS = (96, 92, 95, 93, 94, 91)
"""Bright cyan, green, magenta, yellow, blue, red (SGR); the container gets the same, not bright, as stern does."""

_SGR = re.compile(rb"\x1b\[[0-9;:]*m")
_HIGHLIGHT = "\x1b[1;31m"
_RESET = "\x1b[0m"
_CACHED = 128 << 10
"""Bytes of a large batch that are worked on at a time: with all its copies that stays in the processor's cache."""
_FEW_COLOURS = 8
"""Different colour sequences that are taken out one after the other."""
_CLEAN_PIECE = 8 << 10
"""Bytes: in a chunk with something to clean only the pieces that hold it are decoded."""


@dataclass(frozen=True)
class Look:
    """How lines are printed."""

    output: str = "default"
    timestamps: str = ""
    """empty, default (the API's stamp) or short."""
    zone: tzinfo | None = None
    prefix: bool = False
    """kubectl's prefix, `[pod/NAME/CONTAINER] `."""
    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()
    highlight: tuple[re.Pattern[str], ...] = ()
    template: Callable[[Fields], str] | None = None
    colour: bool = False
    untouched: bool = False
    """Raw output into a pipe or file: bytes as received."""
    namespaced: bool = False
    profiled: bool = False

    @property
    def by_line(self) -> bool:
        """Whether lines must be looked at one by one."""
        filters = self.include or self.exclude or self.highlight or self.template
        dated = self.timestamps == "short" or (self.timestamps and self.zone is not None)
        return bool(filters or dated or self.output not in ("default", "raw"))


@dataclass(frozen=True)
class PodFacts:
    """What JSON and templates say about a pod besides its name."""

    node: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def clean_chunk(chunk: bytes) -> bytes:
    """Whole lines made harmless: what `app.text.clean_line` does, for a chunk at a time."""
    if b"\x1b" in chunk:
        chunk = _without_colours(chunk)
    if is_plain(chunk):
        return chunk
    return b"".join(piece if is_plain(piece) else clean_line(piece).encode() for piece in _pieces(chunk))


def _without_colours(chunk: bytes) -> bytes:
    """Logs use a handful of colours: to take each out whole is several times as fast as a pattern."""
    at = 0
    for _ in range(_FEW_COLOURS):
        at = chunk.find(b"\x1b", at)
        if at < 0:
            return chunk
        found = _SGR.match(chunk, at)
        if found is None:
            break
        chunk = chunk.replace(found.group(), b"")
    return _SGR.sub(b"", chunk)


def _pieces(chunk: bytes, size: int = _CLEAN_PIECE) -> Iterator[bytes]:
    at = 0
    while at < len(chunk):
        end = chunk.find(b"\n", at + size) + 1 or len(chunk)
        yield chunk[at:end]
        at = end


def strip_stamps(text: bytes, stamps: StampReader) -> bytes:
    """The lines without the stamp that was asked for with them."""
    width = text.find(b" ", 0, 40) + 1
    last = last_line(text)
    if width and last[width - 1 : width] == b" " and stamps.read(text[:64]) is not None and stamps.read(last):
        return b"\n".join(map(itemgetter(slice(width, None)), text.split(b"\n")))
    lines = text[:-1].split(b"\n")
    return b"".join(
        (line.partition(b" ")[2] if stamps.read(line) is not None else line) + b"\n" for line in lines
    )  # fmt: skip


def colour_number(name: str) -> int:
    """Which of the colours a pod gets: FNV-1 of its name, as stern has it, so that both show it alike."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value * 0x01000193 & 0xFFFFFFFF) ^ byte
    return value % len(POD_COLOURS)


def pod_colours(source: LogSource) -> tuple[int, int]:
    """SGR numbers for pod and container."""
    bright = POD_COLOURS[colour_number(source.pod)]
    return bright, bright - 60


def paint(text: str, sgr: int | str) -> str:
    """Text in a colour of the terminal."""
    return f"\x1b[{sgr}m{text}{_RESET}"


class LogPrinter:
    """Turns batches into bytes for standard output. Prefixes appear once a second container has joined."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._stamps = StampReader()
        self._prefixes: dict[LogSource, bytes] = {}
        self._first: LogSource | None = None
        self._many = False
        self._facts: dict[LogSource, PodFacts] = {}

    def joined(self, source: LogSource, facts: PodFacts) -> None:
        """A container that will be read. A new instance of a pod is a new pod here."""
        self._facts[source] = facts
        if self._first is None:
            self._first = source
        elif source != self._first and not self._many:
            self._many = True
            self._prefixes.clear()

    def left(self, source: LogSource) -> None:
        """A container that has ended for good."""
        self._prefixes.pop(source, None)
        self._facts.pop(source, None)

    def text(self, batch: LogBatch) -> bytes:
        """The bytes to print for a batch; empty when filters leave nothing."""
        look = self._look
        if not batch.text:
            return b""
        if look.by_line:
            return self._by_line(batch)
        prefix = self._prefix(batch.source) if look.output == "default" or look.prefix else b""
        if len(batch.text) <= 2 * _CACHED:
            return self._piece(batch, batch.text, prefix)
        return b"".join([self._piece(batch, piece, prefix) for piece in _pieces(batch.text, _CACHED)])

    def _piece(self, batch: LogBatch, text: bytes, prefix: bytes) -> bytes:
        if batch.stamped and not self._look.timestamps:
            text = strip_stamps(text, self._stamps)
        if not self._look.untouched:
            text = clean_chunk(text)
        return prefix + text[:-1].replace(b"\n", b"\n" + prefix) + b"\n" if prefix else text

    def _prefix(self, source: LogSource) -> bytes:
        known = self._prefixes.get(source)
        if known is None:
            known = self._prefixes[source] = self._make_prefix(source).encode()
        return known

    def _make_prefix(self, source: LogSource) -> str:
        look = self._look
        pod, container = pod_colours(source)
        profile = f"{source.profile} " if look.profiled else ""
        if look.prefix:
            return f"{profile}[pod/{source.pod}/{source.container}] "
        if not self._many and not look.profiled:
            return ""
        words = [(source.namespace, pod)] if look.namespaced else []
        words += [(source.pod, pod), (source.container, container)]
        return profile + "".join((paint(word, sgr) if look.colour else word) + " " for word, sgr in words)

    def _by_line(self, batch: LogBatch) -> bytes:
        look = self._look
        untouched = look.untouched and not look.highlight
        prefix = self._prefix(batch.source).decode() if look.output == "default" or look.prefix else ""
        out: list[bytes] = []
        for raw in batch.text[:-1].split(b"\n"):
            stamp, body = self._split(raw) if batch.stamped else ("", raw)
            message = clean_line(body)
            if not self._passes(message):
                continue
            if untouched and look.template is None and look.output == "raw":
                out += [prefix.encode(), f"{stamp} ".encode() if stamp else b"", body, b"\n"]
                continue
            if look.highlight and look.colour:
                message = self._highlighted(message)
            message = f"{stamp} {message}" if stamp else message
            out.append(self._shape(batch.source, message, prefix).encode())
        return b"".join(out)

    def _split(self, raw: bytes) -> tuple[str, bytes]:
        """The stamp as it is to be printed (or empty) and the line without it."""
        if self._stamps.read(raw) is None:
            return "", raw
        stamp, _, body = raw.partition(b" ")
        return (self._dated(stamp.decode("ascii")) if self._look.timestamps else ""), body

    def _dated(self, stamp: str) -> str:
        look = self._look
        if look.timestamps == "default" and look.zone is None:
            return stamp
        moment = datetime.fromisoformat(stamp)
        moment = moment.astimezone(look.zone) if look.zone is not None else moment
        if look.timestamps == "short":
            return moment.strftime("%m-%d %H:%M:%S")
        fraction = re.search(r"\.(\d+)", stamp)
        offset = moment.strftime("%z")
        zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{(fraction.group(1) if fraction else '').ljust(9, '0')}{zone}"

    def _passes(self, message: str) -> bool:
        look = self._look
        if any(pattern.search(message) for pattern in look.exclude):
            return False
        return not look.include or any(pattern.search(message) for pattern in look.include)

    def _highlighted(self, message: str) -> str:
        for pattern in self._look.highlight:
            message = pattern.sub(_highlight, message)
        return message

    def _shape(self, source: LogSource, message: str, prefix: str) -> str:
        look = self._look
        if look.template is not None:
            return look.template(self._fields(source, message))
        if look.output == "json":
            return json_text(json_record(self._fields(source, message))) + "\n"
        if look.output == "extjson":
            words = ", ".join(f'"{name}": "{value}"' for name, value in self._words(source))
            return f'{{{words}, "message": {ext_json(message)}}}\n'
        if look.output == "ppextjson":
            rows = "".join(f'  "{name}": "{value}",\n' for name, value in self._words(source))
            return f'{{\n{rows}  "message": {ext_json(message, pretty=True)}\n}}\n'
        return f"{prefix}{message}\n"

    def _words(self, source: LogSource) -> list[tuple[str, str]]:
        pod, container = pod_colours(source)
        words = [("pod", source.pod, pod), ("container", source.container, container)]
        words = [("namespace", source.namespace, pod), *words] if self._look.namespaced else words
        words = [("profile", source.profile, pod), *words] if self._look.profiled else words
        return [(name, paint(value, sgr) if self._look.colour else value) for name, value, sgr in words]

    def _fields(self, source: LogSource, message: str) -> Fields:
        facts = self._facts.get(source, PodFacts())
        pod, container = pod_colours(source)
        return {
            "Message": message, "NodeName": facts.node, "Namespace": source.namespace, "PodName": source.pod,
            "ContainerName": source.container, "Labels": dict(facts.labels), "Profile": source.profile,
            "PodColor": pod if self._look.colour else 0, "ContainerColor": container if self._look.colour else 0,
        }  # fmt: skip


def _highlight(match: re.Match[str]) -> str:
    return f"{_HIGHLIGHT}{match.group()}{_RESET}" if match.group() else ""


def json_record(fields: Fields) -> dict[str, object]:
    """A line as stern's JSON has it, with the profile when several are read."""
    names = ("message", "nodeName", "namespace", "podName", "containerName", "labels")
    record = {name: fields.get(name[0].upper() + name[1:]) for name in names}
    return {**record, "profile": fields["Profile"]} if fields.get("Profile") else record


def json_text(value: object, indent: int | None = None) -> str:
    """JSON without a harmful character: what cannot be shown stays an escape."""
    between = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=between)
    if clean_block(text) == text:
        return text
    return json.dumps(value, indent=indent, separators=between).replace("\x7f", "\\u007f")


def load_json(text: str) -> Any:
    """Parsed JSON. Raises ValueError, also for NaN and Infinity, which are none; RecursionError."""
    return json.loads(text, parse_constant=_no_number)


def _no_number(name: str) -> None:
    raise ValueError(name)


def ext_json(message: str, *, pretty: bool = False) -> str:
    """A message that is JSON as it is, any other as a JSON string."""
    try:
        value = load_json(message)
    except (ValueError, RecursionError):
        return json_text(message)
    if not pretty:
        return message
    return json_text(value, indent=2).replace("\n", "\n  ")
