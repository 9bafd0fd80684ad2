"""Port-forward: pairs of SPDY streams to the ports of a pod. Port 8080 of every pod answers HTTP, others refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from aiohttp import web

from app.lab import spdy, websocket
from app.lab.exec_files import BIG_SIZE, big
from app.lab.exec_pipe import Pipe
from app.lab.spdy import Link, SpdySession, SpdyStream, Tunnel
from app.lab.store import Object
from app.lab.upgraded import Answered, RawConnection
from app.tasks import TaskOwner

PROTOCOLS = ("portforward.k8s.io",)
TUNNELS = frozenset(("SPDY/3.1+portforward.k8s.io",))
"""The subprotocols of a WebSocket that carries SPDY; what they tunnel is one of PROTOCOLS."""

PORT = 8080
"""The port at which pods answer."""

HEAD_MOST = 16 * 1024
"""Bytes of the head of an HTTP request."""

PAIR_LIMIT = 30.0
"""Seconds in which the second stream of a pair has to follow the first, as in the kubelet's streaming server."""

MAX_WAITING = 100
"""Pairs of which one stream is still missing."""


async def answer(request: web.Request, pod: Object, opened: set[RawConnection]) -> web.StreamResponse:
    """Serve one port-forward to its end; its connection is in `opened` meanwhile. Raises ConnectionError."""
    link: Link
    if spdy.is_spdy(request):
        agreed = await spdy.accept(request, PROTOCOLS)
        if isinstance(agreed, web.Response):
            return agreed
        raw = agreed[0]
        link = raw
    else:
        socket = await websocket.accept(request, websocket.agree(request, TUNNELS) or None)
        if isinstance(socket, Answered):
            return socket
        raw, link = socket.raw, Tunnel(socket)
    opened.add(raw)
    try:
        async with TaskOwner("lab port-forward") as owner:
            forwarding = Forwarding(pod, link, owner)
            with suppress(ConnectionError, websocket.Broken):
                await forwarding.session.run()
    finally:
        opened.discard(raw)
        raw.close()
    return Answered()


class Forwarding:
    """One session: puts streams together by their `requestID` and serves every pair in a task of its own."""

    def __init__(self, pod: Object, link: Link, owner: TaskOwner) -> None:
        self.session = SpdySession(link, self._accept)
        self._pod, self._owner = pod, owner
        self._waiting: dict[str, tuple[SpdyStream, asyncio.TimerHandle]] = {}

    def _accept(self, stream: SpdyStream) -> bool:
        """A stream is taken when it says what it is (streamType, port, requestID)."""
        kind, port = stream.headers.get("streamtype"), stream.headers.get("port", "")
        if kind not in ("error", "data") or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
            return False
        key = stream.headers.get("requestid", "")
        if key not in self._waiting:
            if not key or len(self._waiting) >= MAX_WAITING:
                return False
            timer = asyncio.get_running_loop().call_later(PAIR_LIMIT, self._waiting.pop, key, None)
            self._waiting[key] = stream, timer
            return True
        other, timer = self._waiting[key]
        if other.headers.get("streamtype") == kind:
            return False
        timer.cancel()
        del self._waiting[key]
        data, error = (stream, other) if kind == "data" else (other, stream)
        self._owner.spawn(self._serve(data, error, int(data.headers["port"])), name=f"to port {port}")
        return True

    async def _serve(self, data: SpdyStream, error: SpdyStream, port: int) -> None:
        with suppress(ConnectionError):  # the client has gone, or has closed this pair
            if port == PORT:
                await Page(self._pod, data.incoming, data).serve()
            else:
                await error.send(_refused(self._pod, port).encode())
            data.incoming.shut()
            await data.finish()
            await error.finish()
        self.session.forget(data)
        self.session.forget(error)


def _refused(pod: Object, port: int) -> str:
    """containerd's words for a port at which nobody listens."""
    uid = pod["metadata"].get("uid", "")
    sandbox = (uid.replace("-", "") * 2)[:64]
    place = f'in network namespace "/var/run/netns/cni-{uid}": failed to connect to localhost:{port} inside namespace'
    dial = f"IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused"
    return (
        f"error forwarding port {port} to pod {sandbox}, uid : failed to execute portforward "
        f'{place} "{sandbox}", {dial} IPv6 dial tcp6: address localhost: no suitable address found '
    )


class Page:
    """The HTTP server in a pod: a page with the pod's name at every path, and /data/big."""

    def __init__(self, pod: Object, incoming: Pipe, out: SpdyStream) -> None:
        self._pod, self._incoming, self._out = pod, incoming, out

    async def serve(self) -> None:
        """Answer requests of one connection until either side has no more. Raises ConnectionError."""
        while (head := await self._head()) is not None:
            method, path, headers, old = head
            length = headers.get("content-length", "0")
            if not length.isdigit() or "transfer-encoding" in headers:
                await self._send("411 Length Required", b"a body needs a Content-Length\n")
                return
            await self._skip(int(length))
            last = old or headers.get("connection", "").lower() == "close"
            await self._answer(method, path, last)
            if last:
                return

    async def _head(self) -> tuple[str, str, Mapping[str, str], bool] | None:
        """Method, path, headers and whether it is HTTP/1.0; None when there are no more requests."""
        lines: list[str] = []
        size = 0
        while line := await self._incoming.readline(HEAD_MOST):
            size += len(line)
            text = line.decode("latin-1").strip()
            if not text and lines:
                words = lines[0].split()
                if len(words) != 3 or size > HEAD_MOST:
                    break
                pairs = (each.partition(":") for each in lines[1:])
                headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
                return words[0], words[1], headers, words[2] == "HTTP/1.0"
            if size > HEAD_MOST:
                break
            lines += [text] if text else []
        if lines:
            await self._send("400 Bad Request", b"this is no HTTP request\n")
        return None

    async def _skip(self, size: int) -> None:
        while size and (data := await self._incoming.read(size)):
            size -= len(data)

    async def _answer(self, method: str, path: str, last: bool) -> None:
        if path == "/data/big":
            await self._send("200 OK", b"", last, BIG_SIZE)
            if method != "HEAD":
                for piece in big():
                    await self._out.send(piece)
                    await asyncio.sleep(0)
            return
        meta = self._pod["metadata"]
        page = f"Hello from {meta['namespace']}/{meta['name']}\n{method} {path}\n".encode()
        await self._send("200 OK", b"" if method == "HEAD" else page, last, len(page))

    async def _send(self, status: str, body: bytes, last: bool = True, size: int | None = None) -> None:
        kind = "application/octet-stream" if size == BIG_SIZE else "text/plain; charset=utf-8"
        length = len(body) if size is None else size
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {length}"]
        lines += ["Connection: close"] if last else []
        await self._out.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
