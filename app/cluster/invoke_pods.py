"""Pods by command invoke in few bytes: what kubectl prints is made to measure by a Go template (kubectl's own
`-o go-template`), one JSON object a line with what a row needs and no more.

`-o json` has about 5 kB for a pod, and Azure keeps 512 kB of output: a hundred pods. These lines have 200 to 400
bytes. Only what is documented of the command's image is used: kubectl, no compressor. Go's `%q` writes a string so that
none in a pod can end its line or its field.
"""

from __future__ import annotations

import re

import msgspec

from app.cluster.kubectl_answers import Part, check
from app.cluster.malformed import malformed
from app.cluster.pod_decode import PodAnnotations, PodMeta, RawPod, pod_row
from app.cluster.pod_status import (
    Condition,
    Container,
    ContainerStatus,
    Gate,
    Running,
    Spec,
    State,
    Status,
    Terminated,
    Waiting,
)
from app.errors import JumpdeckError
from app.rows import PodRow

_BEGIN, _END = '{"pods":1}', '{"pods":0}'
"""First and last line: without the last one the answer was cut."""


def _text(key: str, path: str) -> str:
    return f'{{{{with {path}}}}}"{key}":{{{{printf "%q" .}}}},{{{{end}}}}'


def _number(key: str, path: str) -> str:
    return f'{{{{with {path}}}}}"{key}":{{{{.}}}},{{{{end}}}}'


def _sign(key: str, path: str) -> str:
    return f'{{{{if {path}}}}}"{key}":1,{{{{end}}}}'


_STATE = (
    '{{with .state}}{{with .waiting}}"W":1,' + _text("q", ".reason") + '{{else}}{{with .terminated}}"T":1,'
    + _number("e", ".exitCode") + _number("g", ".signal") + _text("q", ".reason")
    + '{{else}}"R":1,{{end}}{{end}}{{end}}'
)  # fmt: skip
_LAST = '{{with .lastState}}{{with .terminated}}"L":1,' + _number("x", ".exitCode") + _text("l", ".finishedAt") + (
    "{{end}}{{end}}"
)  # fmt: skip
_STATUS = (
    "{ " + _text("n", ".name") + _sign("y", ".ready") + _sign("s", ".started") + _sign("i", ".containerID")
    + _number("r", ".restartCount") + _STATE + _LAST + '"z":0},'
)  # fmt: skip


def _group(names: str, statuses: str, kind: str) -> str:
    """Containers of the specification as name and restart policy by turns, and their statuses."""
    each = '{{with .name}}{{printf "%q" .}}{{end}},{{with .restartPolicy}}{{printf "%q" .}}{{else}}""{{end}},'
    return (
        f'{{{{with .spec.{kind}ontainers}}}}"{names}":[{{{{range .}}}}{each}{{{{end}}}}0],{{{{end}}}}'
        f'{{{{with .status.{kind}ontainerStatuses}}}}"{statuses}":[{{{{range .}}}}{_STATUS}{{{{end}}}}0],{{{{end}}}}'
    )


_CONDITIONS = (
    '{{range .status.conditions}}{{if eq .status "True"}}{{if eq .type "Ready"}}"Y":1,{{end}}'
    '{{if eq .type "Initialized"}}"Z":1,{{end}}'
    '{{else}}{{with .reason}}{{if eq . "SchedulingGated"}}"S":1,{{end}}{{end}}{{end}}{{end}}'
)
_GATES = (
    '{{with .spec.readinessGates}}"G":[{{range .}}{{printf "%q" .conditionType}},{{end}}0],{{end}}'
    '{{if .spec.readinessGates}}"F":[{{range .status.conditions}}{{if eq .status "True"}}{{printf "%q" .type}},{{end}}'
    "{{end}}0],{{end}}"
)
_TABLE = (
    _text("N", ".metadata.namespace") + _text("n", ".metadata.name") + _text("t", ".metadata.creationTimestamp")
    + _sign("d", ".metadata.deletionTimestamp") + _text("p", ".status.phase") + _text("r", ".status.reason")
    + _CONDITIONS + _group("a", "A", "c") + _group("b", "B", "initC")
)  # fmt: skip
_WIDE = _text("o", ".spec.nodeName") + _text("m", ".status.nominatedNodeName") + _text("I", ".status.podIP") + _GATES
_REST = (
    _text("u", ".metadata.uid") + _group("e", "E", "ephemeralC")
    + '{{with .metadata.annotations}}{{with index . "kubectl.kubernetes.io/default-container"}}"k":'
      '{{printf "%q" .}},{{end}}{{end}}'
    + '{{with .metadata.labels}}"L":[{{range $k, $v := .}}{{printf "%q" $k}},{{printf "%q" $v}},{{end}}0],{{end}}'
)  # fmt: skip


def template(*, wide: bool = True, rows: bool = True) -> str:
    """The Go template: for a table as printed, a wide one, or (`rows`) all that a screen shows and filters by."""
    fields = _TABLE + (_WIDE if wide or rows else "") + (_REST if rows else "")
    return f"{_BEGIN}\n{{{{range .items}}}}{{ {fields}\"z\":0}}\n{{{{end}}}}{_END}\n"


class _Short(msgspec.Struct, frozen=True, gc=False):
    """A container's status."""

    n: str = ""
    y: int = 0
    s: int = 0
    i: int = 0
    r: float = 0
    W: int = 0
    T: int = 0
    R: int = 0
    q: str = ""
    e: float = 0
    g: float = 0
    L: int = 0
    x: float = 0
    l: str | None = None  # noqa: E741 (the line's own key)


class _Line(msgspec.Struct, frozen=True, gc=False):
    """A pod."""

    N: str = ""
    n: str = ""
    u: str = ""
    t: str | None = None
    d: int = 0
    p: str = ""
    r: str = ""
    o: str = ""
    m: str = ""
    I: str = ""  # noqa: E741 (the line's own key)
    k: str = ""
    Y: int = 0
    Z: int = 0
    S: int = 0
    a: list[str | int] = []
    b: list[str | int] = []
    e: list[str | int] = []
    A: list[_Short | int] = []
    B: list[_Short | int] = []
    E: list[_Short | int] = []
    G: list[str | int] = []
    F: list[str | int] = []
    L: list[str | int] = []


_DECODER = msgspec.json.Decoder(_Line)
_GO_ONLY = re.compile(r'\\(?:[\\"bfnrt]|u[0-9a-f]{4}|([av])|x([0-9a-f]{2})|U([0-9a-f]{8}))')
"""Escapes of Go's `%q`; the groups are those that JSON does not have."""


def rows_of(part: Part) -> list[PodRow]:
    """The pods of an answer to `template`, in the server's order. Raises JumpdeckError (refused, cut, malformed)."""
    check(part, "the list of pods")
    lines = [line.rstrip("\r") for line in part.output.split("\n")]
    begin = lines.index(_BEGIN) if _BEGIN in lines else -1
    found = [line for line in lines[begin + 1 :] if line.startswith("{")]  # what kubectl warns of stands between
    if begin < 0 or not found or found[-1] != _END:
        if part.whole and begin < 0:
            raise malformed("the list of pods", "it is not what was asked for")
        raise JumpdeckError(
            "The answer is larger than command invoke carries",
            f"the list of pods: Azure keeps the first 512 kB, about {max(len(found) - 1, 0):,} pods",
            "Narrow it: a namespace (-n), or a selector (-l).", code="JD-INVOKE-CUT", layer="api",
        )  # fmt: skip
    try:
        return [pod_row(_pod(_DECODER.decode(_GO_ONLY.sub(_json, line)))) for line in found[:-1]]
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise malformed("the list of pods", error) from error


def _json(escape: re.Match[str]) -> str:
    bell, byte, wide = escape.groups()
    if bell:
        return "\\u0007" if bell == "a" else "\\u000b"
    if byte:
        return f"\\u00{byte}"
    if wide:
        return chr(int(wide, 16)) if int(wide, 16) < 0x11_0000 else "\ufffd"
    return escape.group()


def _pod(line: _Line) -> RawPod:
    inits, kept, late = _containers(line.b), _containers(line.a), _containers(line.e)
    met = {kind for kind in line.F if isinstance(kind, str)} | ({"Ready"} if line.Y else set())
    conditions = [Condition(kind, "True") for kind in (*met, *(("Initialized",) if line.Z else ()))]
    if line.S:
        conditions.append(Condition("PodScheduled", "False", "SchedulingGated"))
    labels = [text for text in line.L if isinstance(text, str)]
    return RawPod(
        PodMeta(
            name=line.n, namespace=line.N, uid=line.u, creationTimestamp=line.t,
            deletionTimestamp="now" if line.d else None, labels=dict(zip(labels[::2], labels[1::2], strict=False)),
            annotations=PodAnnotations(line.k) if line.k else None,
        ),
        Spec(kept, inits, late, line.o, [Gate(kind) for kind in line.G if isinstance(kind, str)]),
        Status(
            line.p, line.r, conditions, _statuses(line.B), _statuses(line.A), _statuses(line.E), line.I,
            nominatedNodeName=line.m,
        ),
    )  # fmt: skip


def _containers(words: list[str | int]) -> list[Container]:
    texts = [word for word in words if isinstance(word, str)]
    return [Container(name, policy) for name, policy in zip(texts[::2], texts[1::2], strict=False)]


def _statuses(found: list[_Short | int]) -> list[ContainerStatus]:
    return [_status(short) for short in found if isinstance(short, _Short)]


def _status(short: _Short) -> ContainerStatus:
    ended = Terminated(int(short.e), int(short.g), short.q) if short.T else None
    waiting = Waiting(short.q) if short.W else None
    before = State(terminated=Terminated(int(short.x), finishedAt=short.l)) if short.L else None
    return ContainerStatus(
        short.n, State(Running() if short.R else None, waiting, ended), before, bool(short.y), bool(short.s),
        int(short.r), "started" if short.i else "",
    )  # fmt: skip
