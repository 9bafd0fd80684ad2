"""What kubectl prints when command invoke runs it: JSON among its warnings, and its refusals as our errors."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Sequence

import msgspec

from app.cluster import failures
from app.errors import JumpdeckError, RefusedError
from app.records import Record, replace
from app.text import prose

_STATUSES = {
    "Unauthorized": 401, "Forbidden": 403, "NotFound": 404, "MethodNotAllowed": 405, "NotAcceptable": 406,
    "Conflict": 409, "AlreadyExists": 409, "Expired": 410, "Gone": 410, "Invalid": 422, "BadRequest": 400,
    "TooManyRequests": 429, "InternalError": 500, "ServiceUnavailable": 503, "Timeout": 504, "ServerTimeout": 504,
}  # fmt: skip
"""HTTP statuses by the reason that kubectl prints (metav1.StatusReason)."""
_REFUSAL = re.compile(
    r"^(?:error: )?Error from server(?: \((?P<reason>\w+)\))?: (?P<message>.*)", re.MULTILINE | re.IGNORECASE
)


class Part(Record):
    """The output of one command of a script, and its exit code."""

    output: str
    exit_code: int
    whole: bool = True
    """Whether its end was seen: Azure cuts the output of a script at 512 kB."""
    profile: str = "PROFILE"
    """Whose command it was."""


class Script:
    """Several commands as one shell line, so that they cost one pod.

    Their outputs are told apart by lines with a random word, which no log can have guessed.
    """

    def __init__(self, commands: Sequence[Sequence[str]], profile: str = "PROFILE") -> None:
        self._profile = profile
        self._mark = f"jumpdeck-{secrets.token_hex(16)}"
        self._count = len(commands)
        lines = [shlex.join(command) for command in commands]
        self.line = lines[0] if self._count == 1 else "; ".join(f"{one}; echo {self._mark} $?" for one in lines)

    def parts(self, output: str, exit_code: int, *, cut: bool = False) -> list[Part]:
        """The output of each command, in order; of those that were cut off, what there is."""
        return [replace(part, profile=self._profile) for part in self._split(output, exit_code, cut)]

    def _split(self, output: str, exit_code: int, cut: bool) -> list[Part]:
        if self._count == 1:
            return [Part(output, exit_code, not cut)]
        parts: list[Part] = []
        pieces = re.split(rf"{self._mark} (\d+)\r?\n?", output)
        for at in range(0, len(pieces) - 1, 2):
            parts.append(Part(pieces[at], int(pieces[at + 1])))
        missing = self._count - len(parts)
        if missing > 0:
            parts.append(Part(pieces[-1], 0 if cut else exit_code, whole=False))
            parts += [Part("", 0, whole=False)] * (missing - 1)
        return parts[: self._count]


def check(part: Part, what: str) -> None:
    """Raise what kubectl refused or failed with; nothing when its exit code is 0. `what`: as in errors elsewhere."""
    if part.exit_code == 0:
        return
    found = _REFUSAL.search(part.output)
    if found is not None:
        status = _STATUSES.get(found["reason"] or "", 500)
        body = {"kind": "Status", "code": status, "reason": found["reason"] or "", "message": prose(found["message"])}
        raise failures.from_status(status, msgspec.json.encode(body), {}, what)
    if "must be logged in" in part.output:
        raise RefusedError(
            "The cluster does not accept the sign-in", prose(part.output, 300),
            f"Sign in again: jumpdeck sign-in {part.profile}.", code="JD-API-UNAUTHORIZED", layer="token",
        )  # fmt: skip
    raise JumpdeckError(
        "The command failed in the cluster", f"{what}: exit code {part.exit_code}: {prose(part.output, 600)}", "",
        code="JD-INVOKE-COMMAND", layer="api",
    )  # fmt: skip


def json_of(part: Part, what: str) -> bytes:
    """The JSON object that kubectl printed; warnings before and behind it (one stream carries both) are left out.

    Raises JumpdeckError: refused, failed, JD-INVOKE-CUT above 512 kB.
    """
    check(part, what)
    if not part.whole:
        raise JumpdeckError(
            "The answer is larger than command invoke carries", f"{what}: Azure keeps the first 512 kB",
            "Narrow it: a namespace (-n), or a selector (-l).", code="JD-INVOKE-CUT", layer="api",
        )  # fmt: skip
    found = re.search(r"^\{", part.output, re.MULTILINE)
    start = found.start() if found else 0
    return part.output[start : part.output.rfind("}") + 1].encode("utf-8", "replace")
