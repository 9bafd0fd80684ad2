"""Runs the lab's API server over recorded objects, and asks it what was asked of the real one."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from app.lab.api import make_app
from app.lab.store import Faults, Object, Store, Users
from tests.recordings import Recording, load

TOKENS = {"token-of-admin": "admin", "token-of-restricted": "restricted", "token-of-nobody": "nobody"}
WAIT = 20.0
"""Seconds of silence after which a request has failed: the machine is busy, and nothing here takes one."""


class PlainLogs:
    """A log book with one line for every pod."""

    async def answer(self, request: web.Request, pod: Object) -> web.StreamResponse:
        return web.Response(text=f"a line of {pod['metadata']['name']}\n")


def moment(case: str) -> float:
    """The time at which a case was answered: seconds since the epoch."""
    return parsedate_to_datetime(load(case).headers["date"]).timestamp()


def _fill(store: Store, resource: str, case: str) -> None:
    kind = {"pods": "Pod", "namespaces": "Namespace", "events": "Event"}[resource]
    for item in load(case).json()["items"]:
        store.put(resource, {"kind": kind, "apiVersion": "v1", **item}, keep_version=True)


def _deployment(name: str, namespace: str) -> Object:
    meta = {"name": name, "namespace": namespace, "generation": 1, "labels": {"a": "b"}, "annotations": {"c": "d"}}
    container = {"name": "app", "image": f"registry.example.com/{name}:2.3.0"}
    template = {"spec": {"containers": [container]}}
    selector = {"matchLabels": {"app.kubernetes.io/name": name}}
    counts = {"readyReplicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    return {"metadata": meta, "spec": {"replicas": 2, "selector": selector, "template": template}, "status": counts}


def base_world(pods: str = "pods-all-json", at: int = 853) -> Store:
    """The recorded estate at one moment, at the revision `at`."""
    store = Store(clock=lambda: moment(pods), first=int(load(pods).json()["metadata"]["resourceVersion"]))
    for resource, case in (
        ("namespaces", "namespaces-json"),
        ("pods", pods),
        ("events", "events-crasher-v1"),
        ("events", "events-unschedulable-v1"),
    ):
        _fill(store, resource, case)
    for name, namespace in (("checkout", "payments"), ("catalog", "shop"), ("web", "team-a")):
        store.put("deployments", {**_deployment(name, namespace)})
    store.revision = at
    return store


def middle_world() -> Store:
    """The estate when its revision was 2139: a pod of team-a has changed; nothing is forgotten yet."""
    store = base_world()
    store.revision = 2116
    store.modify("pods", "team-a", "web-58cd4586c5-j6h7m", lambda pod: pod["metadata"].update(annotations={"n": "2"}))
    store.revision = 2139
    return store


def expired_world() -> Store:
    """The same, after a compaction."""
    store = middle_world()
    store.expire()
    store.revision = 2139
    return store


def watched_world(*, played: bool = True) -> Store:
    """The namespace `watched` at revision 1245; with `played` everything that happened later is in the history."""
    store = Store(clock=lambda: moment("watch-json"), first=1245)
    for line in load("watch-namespaces").body.splitlines():
        store.put("namespaces", json.loads(line)["object"], keep_version=True)
    store.revision = 1245
    _fill(store, "pods", "watch-base-list")
    if played:
        play(store, "watch-json")
        store.revision = 1312
    return store


def play(store: Store, case: str) -> None:
    """Do to the store what a recorded watch saw."""
    for line in load(case).body.splitlines():
        event = json.loads(line)
        meta = event["object"]["metadata"]
        if event["type"] == "DELETED":
            store.revision = int(meta["resourceVersion"]) - 1
            store.delete("pods", meta["namespace"], meta["name"], last=event["object"])
        else:
            store.put("pods", event["object"], keep_version=True)


@dataclass
class Reply:
    """One answer: the body is decompressed."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines()]


class Client:
    """Asks the server at `base`."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base, self.session = base, session

    def _headers(self, pairs: list[list[str]], user: str | None) -> dict[str, str]:
        headers = {name: value for name, value in pairs if name not in ("Host", "Content-Length")}
        if user:
            headers["Authorization"] = f"Bearer token-of-{user}"
        return headers

    @asynccontextmanager
    async def open(
        self, path: str, *, user: str | None = "admin", accept: str = "application/json"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A streamed GET, for watches."""
        headers = self._headers([["Accept", accept]], user)
        async with self.session.get(URL(self.base + path, encoded=True), headers=headers) as response:
            yield response

    async def get(self, path: str, **how: Any) -> Reply:
        """A GET with its whole body."""
        async with self.open(path, **how) as response:
            return await self._reply(response)

    async def ask(self, case: Recording, *, change: Callable[[str], str] = str, lines: int | None = None) -> Reply:
        """Send a recorded request, its query changed by `change`; of a stream read so many lines only."""
        request = case.request
        query = change(request.get("query") or "")
        url = URL(f"{self.base}{request['path']}{'?' + query if query else ''}", encoded=True)
        headers = self._headers(request["headers"], request["user"])
        body = Recording(case.case, {"response": {"body_base64": request.get("body_base64"), "headers": []}}).body
        skip = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
        async with self.session.request(
            request["method"], url, headers=headers, data=body or None, skip_auto_headers=skip
        ) as response:
            if lines is None:
                return await self._reply(response)
            read = [await response.content.readline() for _ in range(lines)]
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, b"".join(read))

    @staticmethod
    async def _reply(response: aiohttp.ClientResponse) -> Reply:
        body = await response.read()
        headers = {name.lower(): value for name, value in response.headers.items()}
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        return Reply(response.status, headers, body)


@asynccontextmanager
async def serving(store: Store, faults: Faults | None = None) -> AsyncIterator[Client]:
    """The server on a port of its own, and a client for it."""
    app = make_app(store, PlainLogs(), Users(TOKENS), faults)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        limit = aiohttp.ClientTimeout(total=None, sock_connect=WAIT, sock_read=WAIT)  # thousands of events take longer
        async with aiohttp.ClientSession(timeout=limit, auto_decompress=False, read_bufsize=2**21) as session:
            yield Client(f"http://{host}:{port}", session)
    finally:
        await runner.cleanup()
