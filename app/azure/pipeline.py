"""The pipeline under `Arm`: azure-core's, with policies of ours, so that every wait, size and repetition has a limit.

Left out on purpose: azure-core's own retries (they obey any Retry-After and repeat actions), redirects (a token would
follow), logging and tracing (headers and bodies hold tokens). Loading this module takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import re
import ssl
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
from azure.core.exceptions import AzureError
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy, HeadersPolicy, UserAgentPolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.mgmt.core import AsyncARMPipelineClient

from app.azure import failures
from app.errors import JumpdeckError, Recovery, SignInError
from app.identity.identity import AccessToken, Identity
from app.program_log import keep_from_terminal
from app.tasks import Backoff
from app.text import clean

CONNECT_LIMIT = 10.0
"""Seconds to a TLS connection, the proxy's part included."""

ATTEMPT_LIMIT = 30.0
"""Seconds for one whole answer; ARM itself gives up on its resource providers after 60."""

CALL_LIMIT = 60.0
"""Seconds for a call with all its tries and waits. Signing in does not count: a person may be asked."""

BODY_LIMIT = 16 << 20
"""Bytes of one answer once inflated; a page of a thousand resources has two MiB."""

MAX_TRIES = 4
"""Tries of one call; what lasts longer is for whoever called, who shows that it is tried again."""

LONG_TRY = 5.0
"""Seconds after which a failed try is not repeated here: the caller shows what happens meanwhile, and tries again."""

MAX_CONNECTIONS = 8
"""Connections side by side: twenty profiles that open at once are throttled by ARM anyway."""

IDLE_LIMIT = 30.0
"""Seconds that an idle connection is kept; below the idle limits of common balancers (60 s)."""

MAX_CLAIMS = 8 << 10
"""Characters of a claims challenge; real ones have two hundred."""

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_CLAIMS = re.compile(r'(?:^|[ ,])claims="([^"]*)"')
_log = logging.getLogger(__name__)
keep_from_terminal("azure", "aiohttp")


class Call:
    """What the policies share about one call of `Arm`."""

    def __init__(self, what: str, *, repeatable: bool, limit: float = CALL_LIMIT) -> None:
        self.what = what
        self.repeatable = repeatable
        """Whether doing it twice does no harm."""
        self.body = b""
        self.challenged = False
        """Whether a new token was asked for already after a 401."""
        self.tenant = ""
        """Of the token that was sent, when it says so."""
        self._end = time.monotonic() + limit

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self._end - time.monotonic()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """The clock stands inside."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._end += time.monotonic() - began


Policy = AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]
Request = PipelineRequest[HttpRequest]
Answer = PipelineResponse[HttpRequest, AsyncHttpResponse]


class RetryPolicy(Policy):
    """Tries again what can pass: reads after a broken connection, 408, 429 and 5xx; actions only when nobody did them.

    Retry-After is obeyed while it fits into the call's limit; a longer one is left to the caller (`retry_after`).
    """

    async def send(self, request: Request) -> Answer:
        call: Call = request.context.options.pop("call")
        request.context["call"] = call
        backoff = Backoff(base=0.5, cap=8.0)
        while True:
            before = call.left
            try:
                answer = await self.next.send(request)
            except JumpdeckError as error:
                again = error.transient and error.layer == failures.LAYER and before - call.left < LONG_TRY
                wait = backoff.next()
                if not again or not (call.repeatable or error.code in failures.UNSEEN):
                    raise
                if backoff.tries >= MAX_TRIES or wait >= call.left:
                    raise
                _log.debug("%s: tried again in %.1f s: %s", call.what, wait, error)
            else:
                status = answer.http_response.status_code
                if status not in _AGAIN or not (call.repeatable or status == 429):
                    return answer
                wait = backoff.next(failures.retry_after(lower(answer.http_response)))
                if backoff.tries >= MAX_TRIES or wait >= call.left:
                    return answer
                _log.debug("%s: HTTP %d, tried again in %.1f s", call.what, status, wait)
            await asyncio.sleep(wait)


class TokenPolicy(Policy):
    """Sends the identity's token; after a 401 asks once for a new one, with the claims challenge if there is one."""

    def __init__(self, identity: Identity, scope: str) -> None:
        super().__init__()
        self._identity, self._scope = identity, scope

    async def send(self, request: Request) -> Answer:
        call: Call = request.context["call"]
        with call.standing():
            token = await self._identity.token(self._scope)
        answer = await self._send(request, call, token)
        if answer.http_response.status_code != 401 or call.challenged:
            return answer
        if b"InvalidAuthenticationTokenTenant" in call.body:
            return answer  # a new token would be of the same tenant
        call.challenged = True
        claims = claims_of(lower(answer.http_response).get("www-authenticate", ""))
        with call.standing():
            fresh = await self._identity.token(self._scope, fresh=True, claims=claims)
        return answer if fresh.value == token.value else await self._send(request, call, fresh)

    async def _send(self, request: Request, call: Call, token: AccessToken) -> Answer:
        value = token.value.reveal()
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise SignInError(
                "The token cannot be sent", "it is empty or has characters that no token has", "Sign in again.",
                code="JD-SIGN-IN-TOKEN-FORM", recovery=Recovery.NEEDS_PERSON,
            )  # fmt: skip
        call.tenant = failures.tenant_of(value)
        request.http_request.headers["Authorization"] = f"Bearer {value}"
        try:
            answer = await self.next.send(request)
        finally:
            request.http_request.headers.pop("Authorization", None)
        call.body = call.body.replace(value.encode(), b"***")  # some gateways send a request's headers back
        return answer


class LimitPolicy(Policy):
    """One try: connects, sends, reads the whole bounded answer in time. The seam for azure-core and aiohttp."""

    def __init__(self, at: str, proxy: str) -> None:
        super().__init__()
        self._at, self._proxy = at, proxy

    async def send(self, request: Request) -> Answer:
        call: Call = request.context["call"]
        limit = max(0.0, min(ATTEMPT_LIMIT, call.left))
        timer = asyncio.timeout(limit)
        try:
            async with timer:
                answer = await self.next.send(request)
                call.body = await _read(answer.http_response, call.what)
                return answer
        except TimeoutError as error:
            if timer.expired():
                raise failures.no_answer(call.what, self._at, limit) from error
            raise failures.from_exception(error, call.what, self._at, self._proxy) from error
        except (AzureError, aiohttp.ClientError, OSError, EOFError, UnicodeError, zlib.error) as error:
            raise failures.from_exception(error, call.what, self._at, self._proxy) from error
        except RuntimeError as error:
            if "closed" not in str(error).lower():
                raise
            raise failures.from_exception(error, call.what, self._at, self._proxy) from error


async def _read(response: AsyncHttpResponse, what: str) -> bytes:
    body = bytearray()
    try:
        async for piece in response.iter_bytes():
            body += piece
            if len(body) > BODY_LIMIT:
                raise failures.too_large(what, f"{BODY_LIMIT >> 20} MiB")
    except BaseException:
        await response.close()  # ends its connection, of which nobody knows how much is to come
        raise
    return bytes(body)


class RefusalPolicy(Policy):
    """Reads ARM's refusals as `Arm` does, before a client of azure-mgmt-* sees them: its own errors know less."""

    async def send(self, request: Request) -> Answer:
        call: Call = request.context.options["call"]
        answer = await self.next.send(request)
        status, found = answer.http_response.status_code, lower(answer.http_response)
        sent = request.http_request.headers.get("x-ms-correlation-request-id", "")
        _log.debug("%s: HTTP %d, %d bytes, correlation id %s", clean(call.what), status, len(call.body), sent)
        if not 200 <= status < 300:
            raise failures.from_answer(status, found, call.body, call.what, tenant=call.tenant, request_id=sent)
        return answer


class Lent:
    """A pipeline as a client of azure-mgmt-* takes it, for one call, which it must name: `call=lent.call`."""

    def __init__(self, base_url: str, call: Call, policies: list[object], transport: AioHttpTransport) -> None:
        self.base_url, self.call, self.policies, self.transport = base_url, call, policies, transport

    def answer(self) -> dict[str, Any]:
        """The JSON object that came. Raises RouteError when it is none."""
        found = failures.json_object(self.call.body)
        if found is None:
            raise failures.not_arm(self.call.what, 200, self.call.body)
        return found


class Pipeline:
    """One pipeline with its connections. Make it inside the running loop."""

    def __init__(self, base_url: str, at: str, identity: Identity, scope: str, proxy: str | None,
                 trust: ssl.SSLContext) -> None:  # fmt: skip
        # Neither cookies nor environment: the proxy is chosen by us, and .netrc has no say.
        place, self._proxy_headers = proxy_parts(proxy)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust, limit=MAX_CONNECTIONS, keepalive_timeout=IDLE_LIMIT),
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
            proxy=place,
        )  # fmt: skip
        transport = AioHttpTransport(session=self._session, session_owner=False, use_env_settings=False,
                                     connection_timeout=CONNECT_LIMIT, read_timeout=ATTEMPT_LIMIT)  # fmt: skip
        self._transport = transport
        self._policies: list[Any] = [
            HeadersPolicy({"Accept": "application/json", "Accept-Encoding": "gzip",
                           "x-ms-return-client-request-id": "true"}),
            UserAgentPolicy("jumpdeck", user_agent_use_env=False),
            RetryPolicy(),
            TokenPolicy(identity, scope),
            LimitPolicy(at, shown_proxy(proxy)),
        ]  # fmt: skip
        self._client: AsyncARMPipelineClient[HttpRequest, AsyncHttpResponse] = AsyncARMPipelineClient(
            base_url, policies=self._policies, transport=transport
        )

    async def send(self, request: HttpRequest, call: Call) -> AsyncHttpResponse:
        """Send a request; the body of the answer is in `call`. Raises JumpdeckError."""
        return await self._client.send_request(request, stream=True, call=call, proxy_headers=self._proxy_headers)

    def lent(self, base_url: str, what: str) -> Lent:
        """This pipeline for one call of a client of azure-mgmt-*."""
        return Lent(base_url, Call(what, repeatable=True), [RefusalPolicy(), *self._policies], self._transport)

    async def aclose(self) -> None:
        """Close the connections; requests under way fail."""
        await self._client.close()
        await self._session.close()


def lower(response: AsyncHttpResponse) -> dict[str, str]:
    """The headers of an answer, names in lower case."""
    return {name.lower(): value for name, value in response.headers.items()}


def shown_proxy(proxy: str | None) -> str:
    """A proxy as errors name it: without its credentials."""
    return "" if proxy is None else proxy.rpartition("@")[2].rpartition("://")[2]


def proxy_parts(proxy: str | None) -> tuple[str | None, dict[str, str] | None]:
    """A proxy's URL without its credentials, and the header that has them: aiohttp writes the URL into its errors."""
    parts = urlsplit(proxy or "")
    if "@" not in parts.netloc:
        return proxy, None
    credential = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    place = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return place, {"Proxy-Authorization": f"Basic {base64.b64encode(credential.encode()).decode()}"}


def claims_of(challenge: str) -> str | None:
    """The claims of a `WWW-Authenticate` header (OpenID Connect CAE: base64 of JSON), or None."""
    found = _CLAIMS.search(challenge)
    if found is None or len(found[1]) > MAX_CLAIMS:
        return None
    raw = found[1].replace("-", "+").replace("_", "/").rstrip("=")
    try:
        claims = base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True).decode()
        return claims if isinstance(json.loads(claims), dict) else None
    except (binascii.Error, ValueError, RecursionError):
        return None
