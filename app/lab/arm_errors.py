"""Errors as Azure Resource Manager words them, and the headers that stand on all of its answers."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from aiohttp import web

from app.lab.azure_names import OBJECT_ID, REGION, TENANT, UPN
from app.lab.entra_tokens import BadToken


class ArmError(Exception):
    """A refusal: the HTTP status, ARM's code and message, headers beside them."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}

    def response(self) -> web.Response:
        """The error as an answer (Azure REST guidelines: `error` with code and message)."""
        body = {"error": {"code": self.code, "message": self.message}}
        return web.json_response(body, status=self.status, headers=self.headers)


def sign_in_error(bad: BadToken, authority: str) -> ArmError:
    """What ARM answers to a token that is not good."""
    words: dict[str, tuple[str, str]] = {
        "missing": ("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."),
        "malformed": ("InvalidAuthenticationToken", "The access token is invalid."),
        "expired": (
            "ExpiredAuthenticationToken",
            f"The access token expiry UTC time '{bad.facts.get('at')}' is earlier than current UTC time "
            f"'{bad.facts.get('now')}'.",
        ),
        "audience": (
            "InvalidAuthenticationTokenAudience",
            f"The access token has been obtained for wrong audience or resource '{bad.facts.get('audience')}'. It "
            "should exactly match with one of the allowed audiences 'https://management.core.windows.net/'.",
        ),
        "tenant": (
            "InvalidAuthenticationTokenTenant",
            f"The access token is from the wrong issuer 'https://sts.windows.net/{bad.facts.get('tenant')}/'. It must "
            f"match the tenant 'https://sts.windows.net/{TENANT}/' associated with this subscription. Please use the "
            f"authority (URL) '{authority}/{TENANT}' to get the token.",
        ),
    }
    code, message = words[bad.why]
    challenge = f'Bearer authorization_uri="{authority}/{TENANT}", error="invalid_token", error_description="{message}"'
    return ArmError(401, code, message, {"WWW-Authenticate": challenge})


def forbidden(action: str, scope: str) -> ArmError:
    """The caller has no role for it."""
    message = (
        f"The client '{UPN}' with object id '{OBJECT_ID}' does not have authorization to perform action '{action}' "
        f"over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your "
        "credentials."
    )
    return ArmError(403, "AuthorizationFailed", message)


def resource_not_found(kind: str, name: str, group: str) -> ArmError:
    message = (
        f"The Resource '{kind}/{name}' under resource group '{group}' was not found. For more details please go to "
        "https://aka.ms/ARMResourceNotFoundFix"
    )
    return ArmError(404, "ResourceNotFound", message)


def arm_headers(request: web.Request) -> dict[str, str]:
    """The ids by which support finds a request, and what is left of the caller's share."""
    own = str(uuid.uuid4())
    correlation = request.headers.get("x-ms-correlation-request-id") or own
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "x-ms-request-id": own,
        "x-ms-correlation-request-id": correlation,
        "x-ms-routing-request-id": f"{REGION.upper()}:{stamp}:{own}",
        "x-ms-ratelimit-remaining-subscription-reads": "249",
        "Cache-Control": "no-cache",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
        "X-Content-Type-Options": "nosniff",
    }
    if client := request.headers.get("x-ms-client-request-id"):
        headers["x-ms-client-request-id"] = client
    return headers
