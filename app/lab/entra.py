"""The lab's Entra: signs its one person and any application in, over HTTPS, as Microsoft's v2.0 endpoints do.

Metadata (OpenID Connect Discovery 1.0), the device code flow (RFC 8628), client credentials, refresh tokens and the
authorization code (RFC 6749), and SSH certificates in place of tokens. What it answers is shaped as MSAL reads it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

from aiohttp import web
from yarl import URL

from app.lab.azure_names import DISPLAY_NAME, OBJECT_ID, OTHER_TENANT, TENANT, TENANT_DOMAIN, UPN
from app.lab.door import HOST, Door
from app.lab.entra_errors import EntraError, error_body
from app.lab.entra_ssh import SshAuthority
from app.lab.entra_tokens import SHORT_LIFE, Tokens, audience_of, decode, encode
from app.lab.tls_service import behind_door

CODE_LIFE = 900
"""Seconds that a device code is good for, as Entra's."""
APPROVED_AFTER = 2.0
"""Seconds after which the lab's person has typed the device code, when nobody says otherwise."""
POLL_EVERY = 1
"""Seconds between two questions of a client whether the code was typed; Entra says 5."""
MAX_HELD = 1_000
"""Codes and refresh tokens that are kept; the oldest goes."""

TENANTS = frozenset((TENANT, TENANT_DOMAIN, "common", "organizations"))
AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

Json = dict[str, Any]
Form = Mapping[str, str]


@dataclass(slots=True)
class _Code:
    """A device code that was given out. `typed` is None until somebody approves or declines it."""

    user_code: str
    client: str
    scope: str
    made: float
    typed: bool | None = None


class Entra:
    """The endpoints of the lab's tenant. Serve with `async with entra.serve(tls)`."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.ssh = SshAuthority()
        self.faults: set[str] = set()
        """Names of the faults at the place `entra` that are on."""
        self.approve_after: float | None = APPROVED_AFTER
        """Seconds until a device code counts as typed; None: only `approve` does it."""
        self.client_secret = secrets.token_hex(16)
        """The secret that every service principal of the lab has."""
        self.asked: list[str] = []
        """The grants that were asked for, for tests to count."""
        self.door: Door
        self._codes: dict[str, _Code] = {}
        self._browser: dict[str, str] = {}
        self._refresh: dict[str, str] = {}

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext) -> AsyncIterator[Entra]:
        """Listen while the context lasts."""
        async with behind_door(self.handle, tls) as self.door:
            yield self

    @property
    def url(self) -> str:
        """The authority, without a slash at its end."""
        return f"https://{HOST}:{self.door.port}"

    def approve(self, user_code: str | None = None, *, declined: bool = False) -> int:
        """Type a device code (all open ones without a name), or decline it. Returns how many it were."""
        found = [code for code in self._codes.values() if code.typed is None and user_code in (None, code.user_code)]
        for code in found:
            code.typed = not declined
        return len(found)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request."""
        correlation = request.headers.get("client-request-id", "")
        try:
            if request.path.endswith("/oauth2/v2.0/authorize"):
                return self._authorize(request.query)
            return web.json_response(await self._answer(request), headers={"Cache-Control": "no-store, no-cache"})
        except EntraError as error:
            return web.json_response(error_body(error, correlation), status=error.status)

    async def _answer(self, request: web.Request) -> Json:
        if "entra-500" in self.faults:
            raise EntraError("server_error", 90033, "A transient error has occurred. Please try again.", 500)
        tenant, _, rest = request.path.strip("/").partition("/")
        if (tenant, rest) == ("common", "discovery/instance"):
            return self._instance()
        if tenant == "devicelogin":
            return {"typed": self.approve(request.query.get("code"))}
        if tenant.lower() not in TENANTS:
            text = f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
            raise EntraError("invalid_tenant", 90002, text)
        if rest in ("v2.0/.well-known/openid-configuration", ".well-known/openid-configuration"):
            return self._metadata(tenant)
        form = {key: str(value) for key, value in (await request.post()).items()}
        if request.method == "POST" and rest == "oauth2/v2.0/devicecode":
            return self._device_code(form)
        if request.method == "POST" and rest == "oauth2/v2.0/token":
            return await self._token(form)
        raise EntraError("invalid_request", 900144, "There is nothing at this address.", 404)

    def _metadata(self, tenant: str) -> Json:
        base = f"{self.url}/{TENANT if tenant.lower() == TENANT_DOMAIN else tenant}"
        return {
            "issuer": f"{self.url}/{TENANT}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_types_supported": ["code", "id_token", "code id_token"],
            "subject_types_supported": ["pairwise"],
            "tenant_region_scope": None,
            "cloud_instance_name": HOST,
        }

    def _instance(self) -> Json:
        host = f"{HOST}:{self.door.port}"
        names = {"preferred_network": host, "preferred_cache": host, "aliases": [host]}
        where = f"{self.url}/{TENANT}/v2.0/.well-known/openid-configuration"
        return {"tenant_discovery_endpoint": where, "api-version": "1.1", "metadata": [names]}

    def _authorize(self, query: Mapping[str, str]) -> web.Response:
        """The browser flow: the person has signed in at once, and the page hands the code over."""
        code = secrets.token_urlsafe(24)
        _keep(self._browser, code, query.get("client_id", AZURE_CLI))
        fields = {"code": code, "state": query.get("state", "")}
        back = query.get("redirect_uri", "http://localhost")
        if query.get("response_mode") != "form_post":
            return web.Response(status=302, headers={"Location": str(URL(back).with_query(fields))})
        inputs = "".join(f'<input type="hidden" name="{name}" value="{escape(fields[name])}">' for name in fields)
        form = f'<form method="post" action="{escape(back)}">{inputs}<button>Go on</button></form>'
        text = f"<!doctype html><title>Lab</title>{form}<script>document.forms[0].submit()</script>"
        return web.Response(text=text, content_type="text/html")

    def _device_code(self, form: Form) -> Json:
        self._check_scope(form)
        code, user_code = secrets.token_urlsafe(48), secrets.token_hex(5)[:9].upper()
        made = asyncio.get_running_loop().time()
        _keep(self._codes, code, _Code(user_code, form.get("client_id", ""), form.get("scope", ""), made))
        page = f"{self.url}/devicelogin"
        what = f"To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate."
        return {
            "user_code": user_code, "device_code": code, "verification_uri": page, "expires_in": CODE_LIFE,
            "interval": POLL_EVERY, "message": what,
        }  # fmt: skip

    async def _token(self, form: Form) -> Json:
        grant = form.get("grant_type", "")
        self.asked.append(grant)
        self._check_scope(form)
        if grant == "client_credentials":
            return await self._application(form)
        if grant == DEVICE_GRANT:
            self._check_code(form)
        elif grant == "refresh_token":
            self._check_refresh(form)
        elif grant == "authorization_code":
            if self._browser.pop(form.get("code", ""), None) is None:
                raise EntraError("invalid_grant", 70008, "The provided authorization code has expired or is unknown.")
        else:
            raise EntraError("unsupported_grant_type", 70003, f"The app requested an unsupported grant type '{grant}'.")
        self._check_policy(form.get("client_id", ""))
        return await self._person(form)

    def _check_scope(self, form: Form) -> None:
        if form.get("token_type") == "ssh-cert":
            return
        audience = audience_of(form.get("scope", ""))
        if audience and not self.tokens.known(audience):
            text = f"The resource principal named {audience} was not found in the tenant named Jumpdeck Lab."
            raise EntraError("invalid_resource", 500011, text)

    def _check_policy(self, client: str, *, application: bool = False) -> None:
        """The refusals that a tenant's administrator or a wrong tenant bring."""
        if "conditional-access" in self.faults:
            text = (
                "Access has been blocked by Conditional Access policies. "
                "The access policy does not allow token issuance."
            )
            claims = json.dumps({"access_token": {"capolids": {"essential": True, "values": [OBJECT_ID]}}})
            raise EntraError("invalid_grant", 53003, text, claims=claims, suberror="message_only")
        if "wrong-tenant" in self.faults and application:
            text = f"Application with identifier '{client}' was not found in the directory 'Jumpdeck Lab'."
            raise EntraError("unauthorized_client", 700016, text)
        if "wrong-tenant" in self.faults:
            text = (
                f"User account '{UPN}' from identity provider 'https://sts.windows.net/{OTHER_TENANT}/' does not exist "
                f"in tenant 'Jumpdeck Lab' and cannot access the application '{client}' in that tenant."
            )
            raise EntraError("invalid_grant", 50020, text)

    def _check_code(self, form: Form) -> None:
        """Raises EntraError unless the device code was typed; a good one is used up."""
        name = form.get("device_code") or form.get("code", "")
        code = self._codes.get(name)
        if code is None:
            raise EntraError("invalid_grant", 70000, "The provided value for the 'device_code' is not valid.")
        age = asyncio.get_running_loop().time() - code.made
        if "expired-code" in self.faults or age > CODE_LIFE:
            text = "The provided value for the input parameter 'device_code' has expired."
            raise EntraError("expired_token", 70020, text)
        if code.typed is None and self.approve_after is not None and age >= self.approve_after:
            code.typed = True
        if code.typed is None:
            text = "OAuth 2.0 device flow error. Authorization is pending. Continue polling."
            raise EntraError("authorization_pending", 70016, text)
        del self._codes[name]
        if not code.typed:
            raise EntraError("authorization_declined", 70022, "The user has declined the sign-in.")

    def _check_refresh(self, form: Form) -> None:
        if "refresh-expired" in self.faults or form.get("refresh_token", "") not in self._refresh:
            text = (
                "The refresh token has expired due to inactivity. The token was issued on another day and was inactive "
                "for 90.00:00:00. Send a new interactive authorization request for this user and resource."
            )
            raise EntraError("invalid_grant", 700082, text)

    async def _application(self, form: Form) -> Json:
        client = form.get("client_id", "")
        secret = form.get("client_secret", "")
        if not form.get("client_assertion") and not hmac.compare_digest(secret.encode(), self.client_secret.encode()):
            text = f"Invalid client secret provided. Ensure the secret sent is the secret value of the app '{client}'."
            raise EntraError("invalid_client", 7000215, text, 401)
        self._check_policy(client, application=True)
        if form.get("token_type") == "ssh-cert":
            certificate = await self.ssh.certificate(form.get("req_cnf", ""), self.tokens.clock())
            return {"token_type": "ssh-cert", "access_token": certificate, "expires_in": 3600}
        return self._minted(form, client)

    async def _person(self, form: Form) -> Json:
        client = form.get("client_id", "")
        refresh = f"1.lab.{secrets.token_urlsafe(48)}"
        _keep(self._refresh, refresh, client)
        now = int(self.tokens.clock())
        claims = {
            "aud": client, "iss": f"{self.url}/{TENANT}/v2.0", "iat": now, "nbf": now, "exp": now + 3600, "ver": "2.0",
            "sub": OBJECT_ID, "oid": OBJECT_ID, "tid": TENANT, "preferred_username": UPN, "name": DISPLAY_NAME,
        }  # fmt: skip
        known = {
            "scope": form.get("scope", ""),
            "refresh_token": refresh,
            "id_token": self.tokens.sign(claims),
            "client_info": encode(json.dumps({"uid": OBJECT_ID, "utid": TENANT}).encode()),
        }
        if form.get("token_type") == "ssh-cert":
            certificate = await self.ssh.certificate(form.get("req_cnf", ""), self.tokens.clock())
            return {"token_type": "ssh-cert", "access_token": certificate, "expires_in": 3600, **known}
        return {**self._minted(form, ""), **known}

    def _minted(self, form: Form, application: str) -> Json:
        """The part of an answer that is the token: a bearer's, or one bound to a key (`token_type=pop`)."""
        kind = form.get("token_type", "Bearer")
        bound = _confirmation(form) if kind == "pop" else None
        minted = self.tokens.mint(
            audience_of(form.get("scope", "")) or self.tokens.manager, application=application, bound=bound,
            life=SHORT_LIFE if "short-tokens" in self.faults else None, challenged="claims" in form,
            overage="group-overage" in self.faults,
        )  # fmt: skip
        life = {"expires_in": minted.expires_in, "ext_expires_in": minted.expires_in}
        return {"token_type": kind, "access_token": minted.token, **life}

    async def give(self, scope: str, data: Form) -> Json:
        """A token for the sign-in kind of the lab's own profiles: it signs in without asking. Raises EntraError."""
        form = {**data, "scope": scope, "client_id": AZURE_CLI}
        if self.door.closed or "entra-500" in self.faults:
            raise EntraError("server_error", 90033, "The lab's Entra does not answer: a fault is on there.", 500)
        self._check_scope(form)
        self._check_policy(AZURE_CLI)
        answer = await self._person(form)
        kind = {"token_type": answer["token_type"]}
        return {**kind, "token": answer["access_token"], "expires_at": self.tokens.clock() + answer["expires_in"]}


def _confirmation(form: Form) -> Json:
    """The key that a token is to be bound to, from `req_cnf` (RFC 7800, 3.1). Raises EntraError."""
    try:
        found = json.loads(decode(form.get("req_cnf", "")))
        if not found["kid"] or found["kid"] != form.get("key_id"):
            raise ValueError("no key id")
    except (ValueError, KeyError, TypeError) as error:
        text = "The request body must contain a valid 'req_cnf' for token_type 'pop'."
        raise EntraError("invalid_request", 900144, text) from error
    return {"kid": str(found["kid"]), **({"xms_ksl": str(found["xms_ksl"])} if "xms_ksl" in found else {})}


def _keep(known: dict[str, Any], name: str, value: object) -> None:
    while len(known) >= MAX_HELD:
        del known[next(iter(known))]
    known[name] = value
