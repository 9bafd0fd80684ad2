"""Tokens from a running lab, over its control channel: only where the configuration folder is that lab's, never asked.

The request is `{"command": "token", "scope": SCOPE}`, the answer `{"ok": true, "token": …, "expires_at": …}` (POSIX
seconds). For a token that is bound to a key the request has the form's fields too: `"data": {"token_type": "pop", …}`.
"""

from __future__ import annotations

from app.errors import SignInError
from app.identity.identity import AccessToken
from app.identity.source import About, Obtained, Show
from app.secrets.lab import ask_lab, lab_channel
from app.secrets.secret import Secret
from app.text import prose


class LabSource:
    """The lab's own identity."""

    def __init__(self, about: About) -> None:
        self.about = about

    async def silent(self, scope: str, claims: str | None, fresh: bool) -> Obtained:
        """As `TokenSource.silent`."""
        request: dict[str, object] = {"command": "token", "scope": scope, "fresh": fresh}
        if claims is not None:
            request["claims"] = claims
        return await self._asked(request)

    async def key_bound(self, scope: str, data: dict[str, str], show: Show | None, tenant: str = "") -> AccessToken:
        """A token that is bound to a key: the form fields go with the request. Raises SignInError."""
        return (await self._asked({"command": "token", "scope": scope, "fresh": True, "data": data})).token

    async def _asked(self, request: dict[str, object]) -> Obtained:
        channel = lab_channel()
        if channel is None:
            raise not_in_a_lab()
        answer = await ask_lab(channel, request)
        token, ends = answer.get("token"), answer.get("expires_at")
        if isinstance(token, str) and token and isinstance(ends, int | float):
            return Obtained(AccessToken(Secret(token), float(ends)))
        self._raise_refusal(answer.get("entra"))
        error = answer.get("error")
        why = error.get("title") if isinstance(error, dict) else ""
        raise SignInError(
            "The lab gives no token", prose(str(why or "its answer has none")), "Start it again: jumpdeck lab",
            code="JD-SIGN-IN-LAB",
        )  # fmt: skip

    def _raise_refusal(self, said: object) -> None:
        """Raise what the lab's Entra answers under a fault, as any sign-in would hear it."""
        codes = said.get("error_codes") if isinstance(said, dict) else None
        if isinstance(said, dict) and isinstance(codes, list) and codes and isinstance(codes[0], int):
            from app.identity.failures import from_aadsts, words

            raise from_aadsts(codes[0], words(str(said.get("error_description") or "")), self.about)

    async def ask(self, scope: str, claims: str | None, show: Show) -> Obtained:
        """Practice asks nobody."""
        return await self.silent(scope, claims, False)

    async def forget(self) -> bool:
        """Nothing is kept."""
        return False

    def close(self) -> None:
        """Nothing is open."""


def not_in_a_lab() -> SignInError:
    """The failure of the kind `lab` anywhere else."""
    return SignInError("The sign-in kind lab exists in a running lab only", "JUMPDECK_CONFIG_DIR is no lab's folder",
                       "Start one: jumpdeck lab", code="JD-SIGN-IN-LAB")  # fmt: skip
