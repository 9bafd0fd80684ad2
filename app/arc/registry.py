"""Anonymous reads from a registry: the OCI distribution specification 1.1, as far as one file in one layer needs it.

Redirects are followed by hand: only to HTTPS, each with the proxy that its host needs. There is no credential to leak.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from app.arc.program import LAYER
from app.errors import Recovery, RouteError
from app.outbound import choose_proxy, make_trust
from app.records import Record
from app.text import clean, prose

if TYPE_CHECKING:
    import aiohttp

CONNECT_LIMIT = 10.0
"""Seconds to a TLS connection, the proxy's part included."""
STALL_LIMIT = 30.0
"""Seconds without a byte after which a connection counts as dead."""
LAYER_LIMIT = 128 << 20
"""Bytes of the packed program: several times what it has."""
MANIFEST_LIMIT = 1 << 20
"""Bytes; a manifest of one layer has less than one KiB."""
MAX_REDIRECTS = 3
"""Steps to where a blob lies; the vendor's registry has one."""
_CHUNK = 256 << 10
_ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII)


class Layer(Record):
    """The one file of a manifest."""

    digest: str
    """`sha256:` and 64 hexadecimal digits."""
    size: int
    """Bytes."""


class Registry:
    """A registry by its base URL (https). Use as an async context manager. All methods raise JumpdeckError only."""

    def __init__(self, base_url: str, *, proxy: str | None, ca_file: Path | None) -> None:
        self._base = base_url.rstrip("/")
        self._proxy, self._ca_file = proxy, ca_file
        self._http: aiohttp.ClientSession

    @property
    def host(self) -> str:
        """Whom it is asked from."""
        return clean(urlsplit(self._base).netloc or self._base)

    async def __aenter__(self) -> Self:
        import aiohttp

        trust = await asyncio.to_thread(make_trust, self._ca_file)
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT, connect=CONNECT_LIMIT,
                                       sock_read=STALL_LIMIT)  # fmt: skip
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust), timeout=limits, trust_env=False, auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "jumpdeck", "Accept-Encoding": "identity"},
        )  # fmt: skip
        return self

    async def __aexit__(self, _type: type[BaseException] | None, _error: BaseException | None,
                        _trace: TracebackType | None) -> None:  # fmt: skip
        await self._http.close()

    async def layer(self, repository: str, tag: str) -> Layer:
        """The one layer of a manifest, which was found by its tag."""
        what = f"{repository}:{tag}"
        response = await self._get(f"{self._base}/v2/{repository}/manifests/{tag}", {"Accept": _ACCEPT})
        async with response:
            self._expect(response, (200,), what)
            body = bytearray()
            async for piece in self._pieces(response):
                body += piece
                if len(body) > MANIFEST_LIMIT:
                    raise self._odd(what, "its manifest is too large")
            named = response.headers.get("Docker-Content-Digest", "")
        if named.startswith("sha256:") and named != f"sha256:{hashlib.sha256(body).hexdigest()}":
            raise wrong_digest(f"the manifest of {what} is not the one that the registry named")
        return self._layer_of(bytes(body), what)

    def _layer_of(self, body: bytes, what: str) -> Layer:
        try:
            found = json.loads(body)
            layers = found["layers"]
            layer = Layer(str(layers[0]["digest"]), int(layers[0]["size"]))
        except (ValueError, RecursionError, KeyError, IndexError, TypeError, OverflowError) as error:
            raise self._odd(what, "what answers is no manifest") from error
        if len(layers) != 1:
            raise self._odd(what, f"it has {len(layers)} files where one is expected")
        if not _DIGEST.fullmatch(layer.digest):
            raise self._odd(what, "its digest is no SHA-256")
        if not 0 < layer.size <= LAYER_LIMIT:
            raise self._odd(what, f"it has {layer.size} bytes, {LAYER_LIMIT} are the most that is taken")
        return layer

    @asynccontextmanager
    async def blob(self, repository: str, layer: Layer, start: int) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Where the answer begins (`start`, or 0 when the server gives no part) and its bytes in pieces."""
        url = f"{self._base}/v2/{repository}/blobs/{layer.digest}"
        response = await self._get(url, {"Range": f"bytes={start}-"} if start else {})
        given = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        part = response.status == 206 and given and (int(given[1]), int(given[2])) == (start, layer.size)
        if response.status in (206, 416) and not part and start:  # not the part that was asked for: all of it, then
            response.close()
            response = await self._get(url, {})
        async with response:
            self._expect(response, (206,) if part else (200,), repository)
            async with aclosing(self._pieces(response)) as pieces:
                yield start if part else 0, pieces

    async def _get(self, url: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """An answer that is no redirect. The caller closes it."""
        import aiohttp

        for _ in range(MAX_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme != "https" or not parts.hostname:
                raise self._odd(url.partition("?")[0], "that is no https address")
            proxy = choose_proxy(parts.hostname, self._proxy)
            try:
                response = await self._http.get(url, headers=headers, allow_redirects=False, proxy=proxy)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise _broken(error, clean(parts.netloc), proxy) from error
            if response.status not in (301, 302, 303, 307, 308):
                return response
            response.close()
            try:
                url = urljoin(url, response.headers.get("Location", ""))
            except ValueError as error:
                raise self._odd(self.host, "it redirects to what is no address") from error
        raise self._odd(self.host, f"more than {MAX_REDIRECTS} redirects")

    async def _pieces(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        import aiohttp

        chunks = response.content.iter_chunked(_CHUNK)
        while True:
            try:
                piece = await anext(chunks)
            except StopAsyncIteration:
                return
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise _broken(error, clean(response.url.host or ""), None) from error
            yield piece

    def _expect(self, response: aiohttp.ClientResponse, statuses: tuple[int, ...], what: str) -> None:
        status = response.status
        if status in statuses:
            return
        hint = "Check the registry's address."
        if status in (401, 403):
            hint = f"A proxy or firewall may want a sign-in, or not let {self.host} through; the vendor's wants none."
        elif status == 404:
            hint = "This version is not there any more: a newer Jumpdeck knows a newer one. " + BY_HAND
        transient = status in (408, 429) or status >= 500
        raise RouteError(
            "The Arc proxy program cannot be downloaded", f"{clean(what)} from {clean(response.url.host or '')}: "
            f"HTTP {status}", "Try again later." if transient else hint, code="JD-ARC-DOWNLOAD", layer=LAYER,
            recovery=Recovery.TRANSIENT if transient else Recovery.PERMANENT,
        )  # fmt: skip

    def _odd(self, what: str, why: str) -> RouteError:
        return RouteError(
            "What the registry answers is not the Arc proxy program", f"{prose(what, 300)} at {self.host}: {why}",
            "A portal or proxy of the network may stand in between. " + BY_HAND, code="JD-ARC-DOWNLOAD", layer=LAYER,
        )  # fmt: skip


BY_HAND = (
    "Without internet: bring the file from a computer that has it (az keeps it in ~/.clientproxy) and name it in the "
    "profile, arc-proxy = \"PATH\"; or use az there."
)
"""What to do where nothing can be downloaded."""


def wrong_digest(why: str) -> RouteError:
    """What came is not what was announced: it is thrown away."""
    return RouteError(
        "The download is damaged or not genuine", prose(why),
        "It was thrown away. Try again; if it stays so, something on the way changes it: ask whoever runs the network.",
        code="JD-ARC-DIGEST", layer=LAYER,
    )  # fmt: skip


def _broken(error: Exception, place: str, proxy: str | None) -> RouteError:
    import aiohttp

    words: Any = getattr(error, "strerror", None) or str(error) or type(error).__name__
    through = f" through the proxy {clean(proxy.rpartition('@')[2].rpartition('://')[2])}" if proxy else ""
    title, recovery = "The Arc proxy program cannot be downloaded", Recovery.TRANSIENT
    hint = f"Let https://mcr.microsoft.com and https://*.data.mcr.microsoft.com through. {BY_HAND}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        words, recovery = getattr(error.certificate_error, "verify_message", "") or words, Recovery.PERMANENT
        hint = "If a proxy inspects TLS here, name its CA: ca-file in the profile."
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        words, recovery = f"the proxy says HTTP {error.status}", Recovery.PERMANENT
        hint = f"It wants a sign-in, or this host to be let through. {BY_HAND}"
    elif isinstance(error, TimeoutError):
        words = "nothing came in time"
    return RouteError(title, f"{place}{through}: {prose(words, 300)}", hint, code="JD-ARC-DOWNLOAD", layer=LAYER,
                      recovery=recovery)  # fmt: skip
