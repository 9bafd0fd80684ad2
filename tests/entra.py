"""A small Entra over TLS for tests: discovery, token and device-code endpoints, with what goes wrong there.

Shapes: RFC 6749 §5, RFC 8628 §3, OpenID Connect Discovery §4, and the answers that msal 1.39 reads.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from app.identity.clouds import CloudEndpoints
from app.identity.source import About
from tests.tls_servers import Pair, authority, server_context, server_pair

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "99999999-8888-7777-6666-555555555555"
UPN = "ops@contoso.com"
ARM = "https://management.test//.default"
AKS = "6dae42f8-4368-4678-94ff-3960e28e3630/.default"


_NAMES = {"pending": "authorization_pending", "expired": "expired_token", "declined": "authorization_declined"}


def _part(fields: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


class Entra:
    """The state of the emulator; `url` is its authority."""

    def __init__(self) -> None:
        self.url = ""
        self.client_secret = f"client-secret-{secrets.token_hex(12)}"
        self.made: list[str] = [self.client_secret]
        """Everything secret that it knows or gave out."""
        self.requests: list[dict[str, str]] = []
        """Forms posted to the token endpoint."""
        self.paths: list[str] = []
        self.life = 3600.0
        self.refresh_in: float | None = None
        self.user = UPN
        self.device: list[str] = []
        """Answers to the polls of a device code, in order: pending, slow_down, expired, declined; then it succeeds."""
        self.device_life = 900
        self.refuse: tuple[str, str] | None = None
        """An OAuth error and description for every token request."""
        self.refuse_refresh: tuple[str, str] | None = None
        self.bound_type = "pop"
        """The type of token that a request for one bound to a key gets."""
        self.status = 0
        """An HTTP status for every token request, with `headers`."""
        self.headers: dict[str, str] = {}
        self.gate = asyncio.Event()
        """Token requests wait for it."""
        self.gate.set()
        self.asked = asyncio.Event()
        self.codes: list[str] = []
        self.scope = ""
        self.transports: set[asyncio.Transport] = set()

    def token(self, kind: str, **claims: object) -> str:
        """A token that nobody signed, with a sentinel in its last part."""
        made = f"{_part({'alg': 'none'})}.{_part({'kind': kind, **claims})}.{kind}-sentinel-{secrets.token_hex(16)}"
        self.made.append(made.rsplit(".", 1)[1])
        return made

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        self.transports.add(request.transport)
        if request.path.endswith("/openid-configuration"):
            tenant = request.path.split("/")[1]
            if tenant == "unknown.test":
                return _error("invalid_tenant", "AADSTS90002: Tenant 'unknown.test' not found. Trace ID: 1")
            base = f"{self.url}/{tenant}/oauth2/v2.0"
            return web.json_response({
                "issuer": f"{self.url}/{TENANT}/v2.0", "token_endpoint": f"{base}/token",
                "authorization_endpoint": f"{base}/authorize", "device_authorization_endpoint": f"{base}/devicecode",
            })  # fmt: skip
        if request.path.endswith("/devicecode"):
            code = f"device-{secrets.token_hex(12)}"
            self.made.append(code)
            self.codes.append(f"CODE{len(self.codes)}")
            self.scope = str((await request.post())["scope"])
            return web.json_response({
                "device_code": code, "user_code": self.codes[-1], "verification_uri": "https://login.test/device",
                "expires_in": self.device_life, "interval": 1, "message": f"type {self.codes[-1]}",
            })  # fmt: skip
        if request.path.endswith("/token"):
            return await self._answer({name: str(value) for name, value in (await request.post()).items()})
        return web.Response(status=404)

    async def _answer(self, form: dict[str, str]) -> web.StreamResponse:
        self.requests.append(form)
        self.asked.set()
        await self.gate.wait()
        if self.status:
            return web.Response(status=self.status, headers=self.headers, text="<html>no</html>")
        if self.refuse is not None:
            return _error(*self.refuse)
        if form["grant_type"] == "client_credentials":
            if form.get("client_secret") != self.client_secret and "client_assertion" not in form:
                return _error("invalid_client", "AADSTS7000215: Invalid client secret provided. Trace ID: 1")
            return self._tokens(form, appid=form["client_id"])
        if form["grant_type"] == "refresh_token":
            if self.refuse_refresh is not None:
                return _error(*self.refuse_refresh)
            return self._tokens(form, upn=self.user)
        if self.device:
            what = self.device.pop(0)
            return _error(_NAMES.get(what, what), f"the code is {what}")
        return self._tokens(form, upn=self.user)

    def _tokens(self, form: dict[str, str], **claims: object) -> web.StreamResponse:
        scope = form.get("scope") or self.scope
        kind = "Bearer"
        if form.get("token_type") == "pop":
            raw = form["req_cnf"]
            cnf = json.loads(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))
            kind, claims = self.bound_type, {**claims, "cnf": cnf, "tid": TENANT}
        fields: dict[str, object] = {
            "token_type": kind, "expires_in": int(self.life), "ext_expires_in": int(self.life),
            "scope": scope.split()[0],
            "access_token": self.token("access", scope=scope, exp=time.time() + self.life, **claims),
        }  # fmt: skip
        if self.refresh_in is not None:
            fields["refresh_in"] = int(self.refresh_in)
        if "upn" in claims:
            self.made.append(refresh := f"refresh-{secrets.token_hex(16)}")
            now = int(time.time())
            fields |= {
                "refresh_token": refresh, "client_info": _part({"uid": "u1", "utid": TENANT}),
                "id_token": self.token(
                    "id", aud=form["client_id"], iss=f"{self.url}/{TENANT}/v2.0", tid=TENANT, sub="s1",
                    preferred_username=self.user, iat=now, exp=now + 3600,
                ),
            }  # fmt: skip
        return web.json_response(fields)

    def endpoints(self, ca_file: Path | None) -> CloudEndpoints:
        return CloudEndpoints("test", self.url, "https://arm.test", ARM, ca_file=ca_file)

    def about(self, kind: str, *, account: str = "", client_id: str = "", tenant: str = TENANT) -> About:
        return About(kind, "adm", "prod-weu", account, tenant, client_id, self.url)


def _error(name: str, description: str) -> web.StreamResponse:
    body = {"error": name, "error_description": description, "error_codes": [0]}
    return web.json_response(body, status=401 if name == "invalid_client" else 400)


@asynccontextmanager
async def entra(folder: Path, pair: Pair | None = None) -> AsyncIterator[tuple[Entra, Path]]:
    """A running emulator, and the file of the CA to trust."""
    found = Entra()
    ca = folder / "entra-ca.pem"
    ca.write_bytes(authority().pem)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(pair or server_pair())).start()
    found.url = f"https://localhost:{runner.addresses[0][1]}"
    try:
        yield found, ca
    finally:
        await runner.cleanup()
        for transport in found.transports:  # abandoned clients say no goodbye in TLS, and it would be waited for
            transport.abort()
        await asyncio.sleep(0)
