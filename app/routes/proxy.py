"""Through a web proxy: HTTP CONNECT (RFC 9110 §9.3.6), over plain TCP to the proxy."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

from app.dialer import Dialer, ProtocolFactory
from app.errors import JumpdeckError, ProfileError, Recovery, RouteError
from app.routes import failures
from app.routes.feeding import feed
from app.secrets.secret import Secret
from app.text import clean, prose

CONNECT_LIMIT = 15.0
"""Seconds for the proxy's answer: it dials the far end meanwhile, which itself may take ten."""

HEAD_LIMIT = 16 << 10
"""Bytes of the answer's head; a proxy's sign-in challenge has a few hundred."""

CRLF = b"\r\n"


class ProxyDial:
    """The `proxy` hop. Opening it costs nothing: every stream is a CONNECT of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = parse_proxy(url)

    @property
    def label(self) -> str:
        return f"{clean(self._place[0])} (proxy)"

    @property
    def key(self) -> Hashable:
        """It holds no connection, yet what is reached through another proxy is another way."""
        return ("proxy", *self._place[:2], hash(self._url))

    @asynccontextmanager
    async def open(self, through: Dialer) -> AsyncIterator[Dialer]:
        """Yield a dialer that dials through the proxy."""
        yield ProxyDialer(through, self._url)


class ProxyDialer:
    """Dials by asking the proxy at `url` to connect. Raises ProfileError at once when the URL is none of ours."""

    def __init__(self, through: Dialer, url: str) -> None:
        self._through = through
        self._host, self._port, self._credential = parse_proxy(url)

    async def dial(self, host: str, port: int, factory: ProtocolFactory) -> asyncio.Transport:
        """A stream to `host:port` as the proxy sees it. Raises RouteError (layer proxy, dns or tcp)."""
        try:
            transport = await self._through.dial(self._host, self._port, _Talk)
        except RouteError as exc:
            raise RouteError(
                f"The proxy cannot be reached: {exc.title[:1].lower()}{exc.title[1:]}", exc.detail,
                "Check the proxy's address, or whether it is needed here (NO_PROXY, proxy in the profile).",
                code="JD-PROXY-UNREACHABLE", layer="proxy", recovery=exc.recovery,
            ) from exc  # fmt: skip
        talk = transport.get_protocol()
        assert isinstance(talk, _Talk), "the dialer made the protocol that it was given"
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                head = await talk.ask(self._request(target))
            self._judge(head, target)
            if talk.lost or transport.is_closing():  # whoever takes it over now would never hear of its end
                raise self._error("JD-PROXY-CLOSED", f"The proxy connected to {clean(target)}, and closed",
                                  f"{clean(target)}, from server: {prose(head.partition(CRLF)[0])}",
                                  "It is tried again.", Recovery.TRANSIENT)  # fmt: skip
        except TimeoutError as exc:
            transport.abort()
            raise failures.timed_out(f"proxy {self._at}", CONNECT_LIMIT) from exc
        except BaseException:
            transport.abort()
            raise
        protocol = factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if talk.rest and isinstance(protocol, asyncio.BufferedProtocol):
            feed(protocol, talk.rest)
        elif talk.rest and isinstance(protocol, asyncio.Protocol):
            protocol.data_received(talk.rest)
        transport.resume_reading()
        return transport

    async def wait_lost(self) -> JumpdeckError:
        """As the dialer below: the proxy itself holds nothing open between streams."""
        return await self._through.wait_lost()

    @property
    def _at(self) -> str:
        return f"{clean(self._host)}:{self._port}"

    def _request(self, target: str) -> bytes:
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self._credential is not None:
            basic = base64.b64encode(self._credential.reveal().encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {basic}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("idna" if not target.isascii() else "ascii")

    def _judge(self, head: bytes, target: str) -> None:
        """Raise unless the proxy said 2xx."""
        first, *rest = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not re.fullmatch("[1-9][0-9]{2}", parts[1]):
            raise self._error("JD-PROXY-NOT-HTTP", "The proxy does not speak HTTP", f"it said {prose(first)!r}",
                              "Check the proxy's address; a SOCKS or TLS port answers so.")  # fmt: skip
        status = int(parts[1])
        if 200 <= status < 300:
            return
        said = prose(first)
        if status == 407:
            ways = {line.partition(":")[2].strip().split(" ")[0].lower() for line in rest
                    if line.lower().startswith("proxy-authenticate:")}  # fmt: skip
            raise self._sign_in(ways, said)
        if status in (502, 503, 504):
            raise self._error("JD-PROXY-NO-WAY", f"The proxy cannot reach {clean(target)}",
                              f"{clean(target)}, from server: {said}",
                              "The name may be private: is another way needed?", Recovery.TRANSIENT)  # fmt: skip
        detail = f"{clean(target)}, from server: {said}"
        raise self._error("JD-PROXY-REFUSED", "The proxy refuses to connect there", detail,
                          "Ask for this host and port to be let through.")  # fmt: skip

    def _sign_in(self, ways: set[str], said: str) -> RouteError:
        if self._credential is not None and "basic" in ways:
            return self._error("JD-PROXY-SIGN-IN", "The proxy refuses user name and password", said,
                               "Correct them in the proxy's address.", Recovery.NEEDS_PERSON)  # fmt: skip
        windows = sorted(ways & {"ntlm", "negotiate", "kerberos"})
        if windows:
            names = " or ".join({"ntlm": "NTLM"}.get(way, way.capitalize()) for way in windows)
            return self._error(
                "JD-PROXY-NTLM", "The proxy wants a Windows sign-in", f"it asks for {names}; Jumpdeck has neither",
                "Run a local proxy that signs in for you (px, cntlm) and name it as proxy, or ask for an exemption.",
                Recovery.NEEDS_PERSON)  # fmt: skip
        return self._error("JD-PROXY-SIGN-IN", "The proxy wants a sign-in", said,
                           "Set HTTPS_PROXY with user name and password.", Recovery.NEEDS_PERSON)  # fmt: skip

    def _error(
        self, code: str, title: str, detail: str, hint: str, recovery: Recovery = Recovery.PERMANENT
    ) -> RouteError:
        return RouteError(title, f"proxy {self._at}: {detail}", hint, code=code, layer="proxy", recovery=recovery)


class _Talk(asyncio.Protocol):
    """Sends the CONNECT and collects the head of the answer."""

    def __init__(self) -> None:
        self.rest = b""
        """What came with the end of the head: the far end's first bytes, where it speaks first, as SSH servers do."""
        self.lost = False
        self._head = bytearray()
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def ask(self, request: bytes) -> bytes:
        assert self._transport is not None
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._answer.done():
            return
        end = self._head.find(b"\r\n\r\n")
        if end >= 0:
            if self._transport is not None:
                self._transport.pause_reading()
            self.rest = bytes(self._head[end + 4 :])
            self._answer.set_result(bytes(self._head[:end]))
        elif len(self._head) > HEAD_LIMIT:
            self._fail("its answer has no end")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._fail(prose(str(exc)) if exc else "it closed the connection without an answer")

    def _fail(self, why: str) -> None:
        if not self._answer.done():
            error = RouteError("The proxy gave no answer", why, "Check the proxy's address.", code="JD-PROXY-NOT-HTTP",
                               layer="proxy", recovery=Recovery.TRANSIENT)  # fmt: skip
            self._answer.set_exception(error)


def parse_proxy(url: str) -> tuple[str, int, Secret | None]:
    """Host, port and `user:password` of a proxy's URL. Raises ProfileError (JD-PROXY-URL, JD-PROXY-PAC)."""
    shown = clean(url.rpartition("@")[2])
    if shown.lower().rstrip("/").endswith((".pac", "/wpad.dat", "://wpad")):
        raise ProfileError(
            "That is a script that chooses a proxy (PAC), not a proxy", shown,
            "Open it in a browser and write the proxy that it names for this host: http://HOST:PORT.",
            code="JD-PROXY-PAC",
        )  # fmt: skip
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise _bad_url(shown, "it is not a URL") from exc
    if parts.scheme.startswith("socks"):
        raise _bad_url(shown, "SOCKS proxies are not supported")
    if parts.scheme != "http":
        raise _bad_url(shown, f"a proxy spoken to over {clean(parts.scheme)} is not supported")
    if not host:
        raise _bad_url(shown, "it names no host")
    credential = Secret(f"{unquote(parts.username)}:{unquote(parts.password or '')}") if parts.username else None
    return host, port or 80, credential


def _bad_url(shown: str, why: str) -> ProfileError:
    return ProfileError("The proxy cannot be used", f"{shown}: {why}", "Write http://HOST:PORT.",
                        code="JD-PROXY-URL")  # fmt: skip
