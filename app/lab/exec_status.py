"""How an exec or attach ended, in the words of the stream protocols (recorded: exec-ws-*)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a command: its exit code, or with `failure` why it could not be run at all.

    `unreached`: it was the API server that failed, before a kubelet was asked.
    """

    code: int = 0
    command: tuple[str, ...] = ()
    failure: str = ""
    unreached: bool = False

    def _message(self, translated: bool) -> str:
        if self.failure:
            return f"Internal error occurred: {self._cause(translated)}"
        words = f"error executing command [{' '.join(self.command)}], exit code {self.code}"
        if translated:
            words = f"command terminated with exit code {self.code}"
        return f"command terminated with non-zero exit code: {words}"

    def _cause(self, translated: bool) -> str:
        return f"Internal error occurred: {self.failure}" if translated and not self.unreached else self.failure

    def text(self) -> bytes:
        """What the protocols before v4 send: nothing on success."""
        return self._message(False).encode() if self.code or self.failure else b""

    def json(self, *, translated: bool) -> bytes:
        """The v1 Status of v4 and v5. `translated`: the API server has put the kubelet's SPDY into v5."""
        body: dict[str, Any] = {"metadata": {}, "status": "Failure" if self.code or self.failure else "Success"}
        if self.failure:
            details = {"causes": [{"message": self._cause(translated)}]}
            body |= {"message": self._message(translated), "reason": "InternalError", "details": details, "code": 500}
        elif self.code:
            details = {"causes": [{"reason": "ExitCode", "message": str(self.code)}]}
            body |= {"message": self._message(translated), "reason": "NonZeroExitCode", "details": details}
        return go_json(body)


def go_json(body: object) -> bytes:
    """JSON as Go writes it: the characters `<`, `>` and `&` are escaped."""
    text = msgspec.json.encode(body)
    for sign in b"<>&":
        text = text.replace(bytes([sign]), b"\\u%04x" % sign)
    return text


def not_started(run: str, why: str) -> str:
    """The failure of a command that the runtime could not start; `run` names the attempt (64 hex digits)."""
    start = "error executing command in container: failed to exec in container: failed to start exec"
    return f'{start} "{run}": OCI runtime exec failed: exec failed: {why}: unknown'
