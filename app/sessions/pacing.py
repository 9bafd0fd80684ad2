"""How long a session waits for its next try: quickly after a loss, patiently later, never all at the same moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from app.tasks import Backoff

SETTLED = 60.0
"""Seconds UP after which earlier failures no longer lengthen the next wait."""
RETURN_PERIOD = 120.0
"""Seconds after the loss of a session in which it is tried again quickly: restarts and changes of network take less.
A link that flaps gets them once: they begin anew only when it has settled in between."""
RETURN_CAP = 3.0
"""Seconds: the longest wait in that period. A server that is back must be found within 5 s, of which a login through
several hops may take two. Full jitter stays (1.6 s on average), and a try that itself took long shortens the wait."""
PATIENT_CAP = 30.0
"""Seconds: the longest wait after that period, and for what has never been UP."""
LEAST_CAP = 1.0
"""Seconds of jitter that remain however long the try took: sessions that fail together do not come back together."""


CLOSED_EARLY = "JD-SSH-CLOSED-EARLY"
HOPELESS = {"JD-SSH-PROTOCOL": 2, CLOSED_EARLY: 5}
"""Tries in a row after which the same failure is taken for lasting: a damaged protocol does not mend by itself, and a
port that closes before SSH starts is more often the wrong port than a server that is too busy. Not so once it has been
the right one: a load balancer or a port forwarding takes connections, and closes them, while its server is away."""


class Pacing:
    """Waits of one session. Told of every try, of UP and of the loss."""

    def __init__(self, backoff: Backoff | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._began = clock()
        self._was_up = False
        self._up_at: float | None = None
        self._lost_at: float | None = None
        self._same: tuple[str, int] = ("", 0)

    def begin(self) -> None:
        """A try begins."""
        self._began = self._clock()

    def up(self) -> None:
        """The try succeeded."""
        self._up_at = self._clock()
        self._was_up = True
        self._same = ("", 0)

    def lost(self) -> None:
        """The session is UP no more."""
        self.settled()
        self._began = self._clock()
        self._up_at = None
        if self._lost_at is None:
            self._lost_at = self._began

    def settled(self) -> bool:
        """Whether the session has been UP long enough; earlier failures are forgotten then."""
        settled = self._up_at is not None and self._clock() - self._up_at > SETTLED
        if settled:
            self._backoff.reset()
            self._lost_at = None
        return settled

    def next_wait(self, retry_after: float | None) -> float:
        """Seconds from now to the next try, jittered under a cap that is low while a lost session may come back."""
        now = self._clock()
        returning = self._lost_at is not None and now - self._lost_at < RETURN_PERIOD
        cap = RETURN_CAP if returning else PATIENT_CAP
        self._backoff.cap = max(LEAST_CAP, cap - (now - self._began))
        return self._backoff.next(retry_after)

    def hopeless(self, code: str) -> bool:
        """Whether this failure, told at every try, has come so often in a row that another try is no use."""
        before, count = self._same
        self._same = (code, count + 1 if code == before else 1)
        if code == CLOSED_EARLY and self._was_up:
            return False
        return self._same[1] >= HOPELESS.get(code, sys.maxsize)
