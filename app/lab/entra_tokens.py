"""Tokens of the lab's Entra: shaped as real ones (JWT, RFC 7519), signed with a key that only this lab knows."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.lab.azure_names import (
    AKS_SERVER_APP,
    APP_OBJECT_ID,
    ARC_SERVER_APP,
    DISPLAY_NAME,
    GROUP,
    OBJECT_ID,
    TENANT,
    UPN,
)
from app.lab.store import Users

LIFE = 3_600.0
"""Seconds that a token lives when nobody says otherwise."""
SHORT_LIFE = 60.0
"""Seconds that a token lives under the fault `short-tokens`."""

ARM_AUDIENCES = frozenset(("https://management.core.windows.net", "https://management.azure.com"))
"""What the published clients ask ARM tokens for; the lab's own ARM address is a third."""


OVERAGE = (
    "Error:Error while retrieving group info. Error:Overage claim (users with more than 200 group membership) is "
    "currently not supported."
)
"""What an API server behind Azure Arc says to somebody in too many groups."""
_GROUPS = f"https://graph.windows.net/{TENANT}/users/{OBJECT_ID}/getMemberObjects"
"""Where the groups of a token without them could be read; nothing here does."""


class BadToken(Exception):
    """Why a token is not good: `missing`, `malformed`, `expired`, `audience` or `tenant`."""

    def __init__(self, why: str, **facts: str) -> None:
        super().__init__(why)
        self.why, self.facts = why, facts


def encode(part: bytes) -> str:
    """base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def decode(part: str) -> bytes:
    """The bytes of `encode`. Raises ValueError."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def audience_of(scope: str) -> str:
    """The resource of a scope: what stands before its last segment, without slashes at its end."""
    first = next((word for word in scope.split() if word not in ("openid", "profile", "offline_access")), "")
    resource, _, name = first.rpartition("/")
    return (resource or name).rstrip("/")


@dataclass(slots=True)
class Minted:
    """A new token and its life."""

    token: str
    expires_at: float
    """POSIX seconds."""
    expires_in: int


class Tokens:
    """Makes and reads the tokens of one lab. `clock` is POSIX seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.life = LIFE
        """Seconds that new tokens live; tests set it."""
        self.manager = ""
        """The address of the lab's ARM, once it listens."""
        self.clock = clock
        self.minted = 0
        """How many tokens were made."""
        self._key = secrets.token_bytes(32)

    def known(self, audience: str) -> bool:
        """Whether tokens exist for this resource."""
        return audience in ARM_AUDIENCES or audience in (self.manager, AKS_SERVER_APP, ARC_SERVER_APP)

    def mint(
        self,
        audience: str,
        *,
        application: str = "",
        tenant: str = TENANT,
        life: float | None = None,
        challenged: bool = False,
        bound: Mapping[str, str] | None = None,
        overage: bool = False,
    ) -> Minted:
        """A token for a resource: the person's, or with `application` (a client id) that application's own.

        `challenged`: it was asked for with a claims challenge. `bound`: the key that it is good with (claim `cnf`).
        `overage`: the person is in more groups than a token holds.
        """
        now = self.clock()
        lives = self.life if life is None else life
        who = (
            {"appid": application, "idtyp": "app", "oid": APP_OBJECT_ID, "sub": APP_OBJECT_ID}
            if application
            else {
                "upn": UPN, "unique_name": UPN, "name": DISPLAY_NAME, "oid": OBJECT_ID, "sub": OBJECT_ID,
                "scp": "user_impersonation", "idtyp": "user", "groups": [GROUP],
            }
        )  # fmt: skip
        shown = f"{audience}/" if audience in ARM_AUDIENCES else audience  # as Entra writes the classic ones
        claims = {
            "aud": shown, "iss": f"https://sts.windows.net/{tenant}/", "iat": int(now), "nbf": int(now),
            "exp": int(now + lives), "tid": tenant, "uti": str(uuid.uuid4()), "ver": "1.0", **who,
            **({"xms_lab_challenged": True} if challenged else {}), **({"cnf": dict(bound)} if bound else {}),
        }  # fmt: skip
        if overage and claims.pop("groups", None):
            claims |= {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": _GROUPS}}}
        self.minted += 1
        return Minted(self.sign(claims), int(now + lives), max(int(lives), 1))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Claims as a signed token."""
        head = encode(json.dumps({"typ": "JWT", "alg": "HS256", "kid": "lab"}).encode())
        body = f"{head}.{encode(json.dumps(claims).encode())}"
        return f"{body}.{self._signature(body)}"

    def _signature(self, body: str) -> str:
        return encode(hmac.digest(self._key, body.encode(), hashlib.sha256))

    def read(self, token: str, *audiences: str) -> dict[str, Any]:
        """The claims of a token for one of `audiences`, of the lab's tenant and not expired. Raises BadToken."""
        body, _, signature = token.rpartition(".")
        if not token:
            raise BadToken("missing")
        if not hmac.compare_digest(self._signature(body).encode(), signature.encode("ascii", "replace")):
            raise BadToken("malformed")
        claims: dict[str, Any] = json.loads(decode(body.split(".")[1]))
        if claims["exp"] <= self.clock():
            raise BadToken("expired", at=_stamp(claims["exp"]), now=_stamp(self.clock()))
        if claims["aud"].rstrip("/") not in audiences:
            raise BadToken("audience", audience=str(claims["aud"]))
        if claims["tid"] != TENANT:
            raise BadToken("tenant", tenant=str(claims["tid"]))
        return claims

    def read_for_arm(self, token: str) -> dict[str, Any]:
        """As `read`, for ARM and for what takes ARM's tokens. Raises BadToken."""
        return self.read(token, *ARM_AUDIENCES, self.manager)


def _stamp(seconds: float) -> str:
    return time.strftime("%m/%d/%Y %I:%M:%S %p", time.gmtime(seconds))


def _overage_refused(claims: Mapping[str, Any]) -> bool:
    """Whether the groups are missing where the cluster needs them: Azure Arc's agent does not ask Graph, AKS does."""
    return "_claim_names" in claims and claims.get("aud") == ARC_SERVER_APP


class EntraUsers(Users):
    """The users of the API server: those with a fixed token, and whoever brings a token of the lab's Entra."""

    def __init__(self, fixed: Mapping[str, str], tokens: Tokens) -> None:
        super().__init__(fixed)
        self._entra = tokens

    def user(self, token: str) -> str | None:
        """The name of the user; None for a token that is unknown, expired or meant for another resource."""
        if (known := self.tokens.get(token)) is not None:
            return known
        claims = self._claims(token)
        return None if not claims or _overage_refused(claims) else str(claims.get("upn") or claims["oid"])

    def why_not(self, token: str) -> str:
        """As `Users.why_not`; that somebody in too many groups is refused, as Azure Arc words it."""
        return OVERAGE if _overage_refused(self._claims(token)) else super().why_not(token)

    def _claims(self, token: str) -> dict[str, Any]:
        """Those of a good token; of any other none."""
        try:
            return self._entra.read(token, AKS_SERVER_APP, ARC_SERVER_APP)
        except BadToken:
            return {}
