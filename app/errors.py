"""What goes wrong, in the form in which a person reads it.

Every failure that reaches a user is a `JumpdeckError`: a title (what), a detail (why), a hint (what to do next), a
stable code and the exit code of the command line. Foreign exceptions become one of these at one seam per library.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; they are part of its contract."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PROFILE = 3
    SIGN_IN = 4
    ROUTE = 5
    REFUSED = 6
    NOT_FOUND = 7
    INTERRUPTED = 130
    TERMINATED = 143


class Recovery(Enum):
    """What may help after a failure, so that only what can pass is tried again."""

    TRANSIENT = "transient"
    """Trying again later may work: refused, reset, timed out, 429, 5xx."""
    PERMANENT = "permanent"
    """Trying again gives the same answer until somebody changes something: wrong name, 403, bad certificate."""
    NEEDS_PERSON = "needs a person"
    """A secret, a sign-in or a decision is missing; never tried again by itself (accounts get locked)."""


class JumpdeckError(Exception):
    """A failure with everything that its reader needs.

    `title` says what happened in a few words, `detail` why (text from outside in it is already cleaned), `hint` the
    one next step. `code` is stable (`JD-AREA-NAME`), `layer` names where it happened: profile, dns, tcp, proxy, tls,
    hop, sign-in, token, api, rbac, log or local. `retry_after` is seconds that the far end asked us to wait, or None.
    """

    exit_code: ExitCode = ExitCode.FAILED
    layer: str = "local"

    def __init__(
        self,
        title: str,
        detail: str = "",
        hint: str = "",
        *,
        code: str,
        exit_code: ExitCode | None = None,
        layer: str | None = None,
        recovery: Recovery = Recovery.PERMANENT,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        self.hint = hint
        self.code = code
        if exit_code is not None:
            self.exit_code = exit_code
        if layer is not None:
            self.layer = layer
        self.recovery = recovery
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether trying again by itself makes sense."""
        return self.recovery is Recovery.TRANSIENT

    def __str__(self) -> str:
        return f"{self.title}: {self.detail}" if self.detail else self.title

    def lines(self) -> list[str]:
        """One line what (with the code), one line why, one line what to do; empty ones are left out."""
        return [line for line in (f"{self.title} [{self.code}]", self.detail, self.hint) if line]


class UsageError(JumpdeckError):
    """The command line does not say what to do (exit 2)."""

    exit_code = ExitCode.USAGE


class ProfileError(JumpdeckError):
    """The profile, or a file that it names, cannot be used as it is (exit 3)."""

    exit_code = ExitCode.PROFILE
    layer = "profile"


class SignInError(JumpdeckError):
    """No usable credential (exit 4)."""

    exit_code = ExitCode.SIGN_IN
    layer = "sign-in"


class RouteError(JumpdeckError):
    """A hop or the network did not carry us to the API server (exit 5)."""

    exit_code = ExitCode.ROUTE
    layer = "hop"


class RefusedError(JumpdeckError):
    """The cluster knows us, or not, and says no: 401 or 403 (exit 6)."""

    exit_code = ExitCode.REFUSED
    layer = "rbac"


class NotFoundError(JumpdeckError):
    """What was asked for does not exist (exit 7)."""

    exit_code = ExitCode.NOT_FOUND
    layer = "api"


class OutputLost(Exception):
    """Standard output takes no more: its reader has gone, or the disk is full. `cause` is what the system said."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause
