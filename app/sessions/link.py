"""The link of readers that outlive a failure: a log on a screen waits while a person is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import JumpdeckError
from app.rows import SessionPhase

if TYPE_CHECKING:
    from app.sessions.session import Session


class PatientLink:
    """The `Link` of one session without its impatience: what stops the session stops no reader.

    A command ends with the error of a session that cannot go on by itself. On a screen somebody puts it right and
    tries again, and the log goes on where it was.
    """

    patient = True
    """A sign-in that ended is waited for as well, when a stream meets that first."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def wait_up(self) -> None:
        """Return when the session is UP. Raises only when it is closed."""
        while True:
            try:
                return await self._session.wait_up()
            except JumpdeckError:
                if self._session.state.phase in (SessionPhase.CLOSING, SessionPhase.CLOSED):
                    raise
            await self._session.changed()

    def report(self, error: JumpdeckError) -> None:
        """A stream failed."""
        self._session.report(error)

    def alive(self) -> None:
        """Bytes came."""
        self._session.alive()
