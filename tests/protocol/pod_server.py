"""A scripted API server on a loopback socket, byte by byte under the test's control, and a link that a test can cut."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from app.cluster.access import Access, NoCredentials
from app.cluster.api import ApiClient
from app.errors import JumpdeckError
from app.routes.direct import DirectDialer
from app.rows import PodSnapshot
from app.tasks import TaskOwner


class Reply:
    """One request and the way to answer it."""

    def __init__(self, method: str, target: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(target)
        self.method, self.path, self.body = method, parts.path, body
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self._writer = writer

    async def send(self, body: bytes, status: int = 200, headers: str = "") -> None:
        """A whole answer."""
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def start(self) -> None:
        """The head of a stream."""
        self._writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        await self._writer.drain()

    async def chunk(self, data: bytes) -> None:
        """One chunk of a stream, in its own write."""
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._writer.drain()

    async def events(self, *events: bytes) -> None:
        """A stream's events, each as a chunk of its own."""
        for event in events:
            await self.chunk(event)

    async def end(self) -> None:
        """The clean end of a stream."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def hold(self) -> None:
        """Say nothing more for ever."""
        await asyncio.Event().wait()

    def cut(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


Answer = Callable[[Reply], Awaitable[None]]


class PodServer:
    """Answers each request with the next entry of `script`; when it is used up, requests hang."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.seen: list[Reply] = []
        self.port = 0
        self._owner = TaskOwner("pod server")
        self._asked = asyncio.Event()

    async def __aenter__(self) -> PodServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._owner.aclose()

    def client(self) -> ApiClient:
        """A client of this server, without TLS."""
        access = Access(
            server=f"http://127.0.0.1:{self.port}", host="127.0.0.1", port=self.port, tls_name="127.0.0.1",
            context_factory=ssl.create_default_context, credentials=NoCredentials(),
        )  # fmt: skip
        return ApiClient(access, DirectDialer())

    async def watched(self, times: int) -> list[Reply]:
        """The watches as soon as there are so many."""
        while len(self.watches()) < times:
            self._asked.clear()
            await self._asked.wait()
        return self.watches()

    def watches(self) -> list[Reply]:
        return [reply for reply in self.seen if reply.query.get("watch")]

    def lists(self) -> list[Reply]:
        return [reply for reply in self.seen if not reply.query.get("watch")]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._owner.spawn(self._serve(reader, writer), name="connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
                reply = Reply(method, target, body, writer)
                self.seen.append(reply)
                self._asked.set()
                await (self.script.pop(0)(reply) if self.script else reply.hold())
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


class FakeLink:
    """A link that is up until the test says otherwise."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.reported: list[JumpdeckError] = []
        self.heard = 0
        self.failed: JumpdeckError | None = None

    async def wait_up(self) -> None:
        if self.failed is not None:
            raise self.failed
        await self.up.wait()

    def report(self, error: JumpdeckError) -> None:
        self.reported.append(error)

    def alive(self) -> None:
        self.heard += 1


class Seen:
    """Keeps the snapshots of a watch and waits for one that fits."""

    def __init__(self) -> None:
        self.all: list[PodSnapshot] = []
        self._news = asyncio.Event()

    def __call__(self, snapshot: PodSnapshot) -> None:
        self.all.append(snapshot)
        self._news.set()

    async def until(self, fits: Callable[[PodSnapshot], bool], limit: float = 30.0) -> PodSnapshot:
        """The newest snapshot as soon as it fits."""
        async with asyncio.timeout(limit):
            while not (self.all and fits(self.all[-1])):
                self._news.clear()
                await self._news.wait()
        return self.all[-1]


def pod(name: str, version: int = 1, *, namespace: str = "shop", uid: str = "", padding: int = 0) -> dict[str, Any]:
    """A small running pod."""
    return {
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid or f"uid-{namespace}-{name}",
            "resourceVersion": str(version), "creationTimestamp": "2026-11-22T04:22:07Z",
            "annotations": {"padding": "x" * padding},
        },
        "spec": {"containers": [{"name": "app"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "app", "ready": True, "state": {"running": {}}, "restartCount": version}],
        },
    }  # fmt: skip


def pod_list(version: int, *pods: dict[str, Any], token: str = "") -> bytes:
    """A page of a PodList."""
    meta = {"resourceVersion": str(version), **({"continue": token} if token else {})}
    return json.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": list(pods)}).encode()


def event(kind: str, thing: dict[str, Any]) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    """A BOOKMARK as a v1.36 server sends it: an empty pod with a version."""
    meta = {"resourceVersion": str(version), "creationTimestamp": None}
    return event("BOOKMARK", {"kind": "Pod", "metadata": meta, "spec": {"containers": None}, "status": {}})


def status(code: int, reason: str = "", message: str = "") -> bytes:
    """A Status object."""
    return json.dumps(
        {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code}
    ).encode()


def gone() -> bytes:
    """The ERROR event of a version that is too old."""
    return event("ERROR", json.loads(status(410, "Expired", "too old resource version: 5 (9)")))


def whole(body: bytes, code: int = 200, headers: str = "") -> Answer:
    """An answer of one piece."""

    async def answer(reply: Reply) -> None:
        await reply.send(body, code, headers)

    return answer


def stream(*events: bytes, then: str = "hold") -> Answer:
    """A watch with these events, and then: hold, end or cut."""

    async def answer(reply: Reply) -> None:
        await reply.start()
        await reply.events(*events)
        if then == "end":
            await reply.end()
        elif then == "cut":
            reply.cut()
        else:
            await reply.hold()

    return answer
