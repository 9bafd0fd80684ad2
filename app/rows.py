"""What services hand over and widgets draw: small frozen rows, keyed by uid. All text in them is already cleaned.

Rows are msgspec structs without garbage-collector tracking: ten thousand pods cost a list, not a pause.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from app.errors import JumpdeckError


class ContainerKind(Enum):
    """Where a container stands in the pod's specification."""

    INIT = "init"
    SIDECAR = "sidecar"
    """An init container with restartPolicy Always (native sidecar)."""
    APP = "app"
    EPHEMERAL = "ephemeral"


class ContainerRow(msgspec.Struct, frozen=True, gc=False):
    """One container of a pod with the newest status the API server told."""

    name: str
    kind: ContainerKind
    container_id: str = ""
    """`containerd://…`; empty until it has started. A new id is a new instance with a log of its own."""
    state: str = ""
    """running, waiting, terminated, or empty when there is no status yet."""
    reason: str = ""
    exit_code: int | None = None
    """Of the present terminated state, else of the last one."""
    restarts: int = 0
    ready: bool = False


class PodRow(msgspec.Struct, frozen=True, gc=False):
    """One pod as `kubectl get pods -o wide` shows it; ages are kept as moments, to be drawn at any time."""

    uid: str
    namespace: str
    name: str
    ready: int
    total: int
    status: str
    restarts: int
    restarted_at: float | None
    """POSIX seconds of the newest termination that belongs to `restarts`."""
    created: float | None
    """POSIX seconds; None prints `<unknown>`."""
    ip: str = ""
    node: str = ""
    nominated_node: str = ""
    gates: str = ""
    """Readiness gates as `true/total`, empty when the pod has none."""
    containers: tuple[ContainerRow, ...] = ()
    """Init containers and sidecars first, then the others, then ephemeral ones; each in the order of the spec."""
    labels: tuple[tuple[str, str], ...] = ()
    owner: str = ""
    """Kind and name of the controller, `ReplicaSet/web-5d9f`, or empty."""
    default_container: str = ""
    """From the annotation `kubectl.kubernetes.io/default-container`."""
    phase: str = ""
    finished: bool = False
    """Succeeded or Failed: its logs end."""
    deleting: bool = False


class Staleness(Enum):
    """How far a snapshot can be trusted."""

    LIVE = "live"
    LOADING = "loading"
    """The first list is under way; rows are the pages so far."""
    STALE = "stale"
    """The stream is lost; rows are as last seen."""
    SNAPSHOT = "snapshot"
    """Fetched once, when asked (command invoke); rows are as of then."""


class PodSnapshot(msgspec.Struct, frozen=True):
    """All pods of a scope at one moment. `rows` is never changed after it was handed over."""

    rows: dict[str, PodRow] = msgspec.field(default_factory=dict)
    """By uid, in the server's order (namespace, name), later ones appended."""
    staleness: Staleness = Staleness.LOADING
    heard_at: float = 0.0
    """POSIX seconds of the last sign of life on this stream."""
    error: JumpdeckError | None = None
    """Why it is stale, or why the scope cannot be read at all."""
    revision: int = 0
    """Grows by one with every snapshot of one watch."""


class EventRow(msgspec.Struct, frozen=True):
    """One Kubernetes event, folded as the API server folds it."""

    uid: str
    namespace: str
    kind: str
    """Normal or Warning."""
    reason: str
    object: str
    """`pod/web-1`."""
    message: str
    count: int
    last_seen: float | None
    first_seen: float | None


class LogSource(msgspec.Struct, frozen=True):
    """Whose lines these are."""

    namespace: str
    pod: str
    container: str
    pod_uid: str = ""
    profile: str = ""


class MarkKind(Enum):
    """Why something other than a line stands in a log."""

    CUT = "cut"
    """The stream was lost here and has resumed; nothing is missing."""
    GAP = "gap"
    """Lines may be missing here: rotation, clock, or an instance that is gone."""
    RESTARTED = "restarted"
    ENDED = "ended"
    DROPPED = "dropped"
    """Lines were received and thrown away, and counted."""
    NOTE = "note"
    """The server answered with a sentence in place of a log."""


class LogMark(msgspec.Struct, frozen=True):
    """A divider between lines, drawn across the pane and printed on standard error by the command line."""

    kind: MarkKind
    text: str
    at: float
    """POSIX seconds."""


class LogBatch(msgspec.Struct, frozen=True):
    """What one read of one stream brought, in order: a mark first if there is one, then lines.

    `text` holds whole lines as received, each ended by a line feed, **not yet cleaned** (bytes cannot be drawn: what
    shows them goes through `app.text`). With `stamped`, every line begins with the API's RFC 3339 stamp and a space.
    `count` is the number of lines in `text`; `cut_bytes` counts bytes left out of overlong lines.
    """

    source: LogSource
    text: bytes = b""
    count: int = 0
    mark: LogMark | None = None
    stamped: bool = True
    cut_bytes: int = 0


class SessionPhase(Enum):
    """The states of a session (the state machine is in `app.sessions.states`)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    UP = "up"
    DEGRADED = "degraded"
    """Up as far as we know, but a sign of life is overdue."""
    RETRYING = "retrying"
    NEEDS_TRUST = "needs trust"
    NEEDS_SECRET = "needs secret"  # noqa: S105
    NEEDS_SIGN_IN = "needs sign-in"
    FAILED = "failed"
    CLOSING = "closing"
    CLOSED = "closed"


class StepState(Enum):
    """How far one step of connecting is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Step(msgspec.Struct, frozen=True):
    """One step of connecting as the screen shows it: what, how it stands, how long it took."""

    label: str
    state: StepState = StepState.WAITING
    seconds: float | None = None
    detail: str = ""


class HopState(msgspec.Struct, frozen=True):
    """One hop of an open route as the screen draws it."""

    label: str
    state: StepState = StepState.DONE
    """RUNNING while it is being opened, DONE while it stands, FAILED when it was lost or could not be opened."""
    since: float | None = None
    """POSIX seconds at which it came up."""
    round_trip: float | None = None
    """Seconds to the far end of the hop and back, last measured; None where the hop carries no connection."""
    received: int = 0
    """Bytes that came through it for us."""
    sent: int = 0
    note: str = ""
    """What else there is to say: which of several servers, how we logged in, how many routes share it."""
    banner: str = ""
    """The server's own words before the login; cleaned."""


class SessionState(msgspec.Struct, frozen=True):
    """Everything the screen says about one session; replaced as a whole at every change."""

    profile: str
    phase: SessionPhase = SessionPhase.IDLE
    route: tuple[str, ...] = ("workstation",)
    """Labels of the route line: where we are, the hops, the cluster."""
    steps: tuple[Step, ...] = ()
    hops: tuple[HopState, ...] = ()
    """The hops of the open route, in order; empty while there is none."""
    since: float = 0.0
    """POSIX seconds at which the phase began."""
    up_since: float | None = None
    latency: float | None = None
    """Seconds of the last small request, there and back."""
    tries: int = 0
    retry_at: float | None = None
    """POSIX seconds of the next try while RETRYING."""
    error: JumpdeckError | None = None
    identity: str = ""
    """Whom the cluster sees, when it has been asked."""
    token_until: float | None = None
    """POSIX seconds at which the token in use ends, when it says so; most are renewed before that."""
    server_version: str = ""
    cluster: str = ""
    namespace: str = ""
    """The namespace to look in when "all" is forbidden."""
    warnings: tuple[str, ...] = ()
    """Lasting ones, e.g. that TLS is not verified."""
