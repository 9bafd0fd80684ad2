"""Answers `pods/{name}/exec`, `…/attach` and `…/portforward` as an API server with a kubelet behind it does.

Recorded: exec-*, attach-ws, portforward-ws. What is not recorded (SPDY beyond its 101, the words of a port-forward that
fails) is as kubectl takes it and as containerd's streaming server is known to word it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from app.lab import port_forward, spdy, websocket
from app.lab.exec_channels import (
    SPDY_PROTOCOLS,
    STDERR,
    STDOUT,
    V5,
    WEBSOCKET_PROTOCOLS,
    Channels,
    Size,
    SpdyChannels,
    Wanted,
    WebSocketChannels,
)
from app.lab.exec_files import Files
from app.lab.exec_programs import INTERRUPTED, Container, Process, find_program, run
from app.lab.exec_status import Outcome, not_started
from app.lab.exec_terminal import Terminal
from app.lab.log_answers import choose_container
from app.lab.log_files import LogFile
from app.lab.options import truth
from app.lab.statuses import StatusError, bad_request
from app.lab.store import LogBook, Object, Store
from app.lab.upgraded import LINGER, Answered, RawConnection, kubelet_text
from app.tasks import TaskOwner

KINDS = ("exec", "attach", "portforward")
"""The subresources of a pod that are answered here."""


@dataclass(frozen=True)
class Asked:
    """One request for exec or attach, after the API server's checks."""

    kind: str
    pod: Object
    container: str
    command: tuple[str, ...]
    wanted: Wanted


class PodStreams:
    """The streaming side of the emulated API server and kubelets."""

    def __init__(self, store: Store, logs: LogBook) -> None:
        self._store, self._logs = store, logs
        self._runs = random.Random(0)
        self._open: set[RawConnection] = set()

    def close(self) -> None:
        """End all streams at once, when the server stops."""
        for raw in self._open:
            raw.abort()

    async def answer(self, request: web.Request, pod: Object, kind: str) -> web.StreamResponse:
        """The response for `pod`, which exists. Raises StatusError, and ConnectionError when the client has gone."""
        asked = _asked(request, pod, kind)
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
        if not websocket.is_websocket(request) and not spdy.is_spdy(request):
            raise bad_request("Upgrade request required")
        down = self._node_down(asked)
        tunnelled = V5 in websocket.offered(request) and websocket.is_websocket(request) and kind != "portforward"
        if down and not tunnelled:
            raise StatusError(500, "", f"error dialing backend: {down.partition(': ')[2]}")
        if not down and (refusal := _refusal(asked)) is not None:
            return refusal
        if kind == "portforward":
            return await port_forward.answer(request, pod, self._open)
        return await self._attend(request, asked, down)

    def _node_down(self, asked: Asked) -> str:
        """Why the kubelet cannot be reached; empty when it can (recorded: exec-ws-node-down)."""
        node = self._store.get("nodes", "", asked.pod["spec"]["nodeName"])
        conditions = node["status"].get("conditions", ()) if node else ()
        if node is None or all(each["status"] == "True" for each in conditions if each["type"] == "Ready"):
            return ""
        where = f"{node['status']['addresses'][0]['address']}:10250"
        meta, wanted = asked.pod["metadata"], asked.wanted
        flags = (("error", wanted.stderr), ("input", wanted.stdin), ("output", wanted.stdout), ("tty", wanted.tty))
        query = urlencode([*(("command", word) for word in asked.command), *((name, 1) for name, on in flags if on)])
        place = f"https://{where}/{asked.kind}/{meta['namespace']}/{meta['name']}/{asked.container}?{query}"
        return f'error sending request: Post "{place}": dial tcp {where}: connect: connection refused'

    async def _attend(self, request: web.Request, asked: Asked, down: str) -> web.StreamResponse:
        opened = await _channels(request, asked.wanted)
        if isinstance(opened, web.StreamResponse):
            return opened
        raw, channels = opened
        self._open.add(raw)
        try:
            async with TaskOwner(f"lab {asked.kind}") as owner:
                reader = owner.spawn(_reading(channels), name="client")
                work = owner.spawn(self._work(asked, channels, down), name="work")
                await asyncio.wait({reader, work}, return_when=asyncio.FIRST_COMPLETED)
                if work.done() and work.result():
                    await asyncio.wait({reader}, timeout=LINGER)
        finally:
            self._open.discard(raw)
            raw.close()
        return Answered()

    async def _work(self, asked: Asked, channels: Channels, down: str) -> bool:
        """Run the command and tell its end; False when the client has gone before."""
        try:
            await channels.open()
            if down:
                outcome = Outcome(failure=down, unreached=True)
            elif asked.kind == "exec":
                outcome = await self._exec(asked, channels)
            else:
                outcome = await self._follow(asked, channels)
            await channels.finish(outcome)
        except ConnectionError:
            return False
        return True

    async def _exec(self, asked: Asked, channels: Channels) -> Outcome:
        if not asked.command or find_program(asked.command[0]) is None:
            return Outcome(failure=not_started(f"{self._runs.getrandbits(256):064x}", _no_program(asked.command)))
        meta = asked.pod["metadata"]
        terminal = Terminal(lambda data: channels.send(STDOUT, data)) if asked.wanted.tty else None
        files = Files(meta["name"])
        place = Container(meta["namespace"], meta["name"], asked.container, files, self._store.clock, terminal)
        process = _process(list(asked.command), place, channels)
        async with TaskOwner("lab exec") as owner:
            if terminal is not None:
                owner.spawn(_keys(terminal, channels), name="keys")
                channels.resized = _resizer(terminal)
            program = owner.spawn(run(process), name=asked.command[0])
            if terminal is not None:
                terminal.foreground = program
            await asyncio.wait({program})
            channels.stdin.shut()
        return Outcome(INTERRUPTED if program.cancelled() else program.result(), asked.command)

    async def _follow(self, asked: Asked, channels: Channels) -> Outcome:
        """Attach: what the container writes from now on, until it ends."""
        channels.stdin.shut()
        log = self._logs.running(asked.pod, asked.container)
        if log is not None:
            await _copy_log(log, channels)
        return Outcome()


async def _copy_log(log: LogFile, channels: Channels) -> None:
    position = log.end
    with log.reader() as news:
        while True:
            news.clear()
            position = max(position, log.first)
            entries = log.read(position, log.end - position)
            position += len(entries)
            for entry in entries:
                await channels.send(STDOUT, entry.data if entry.partial else entry.data + b"\n")
            if log.ended:
                return
            await news.wait()


def _asked(request: web.Request, pod: Object, kind: str) -> Asked:
    query = request.query
    if kind == "portforward":
        return Asked(kind, pod, "", (), Wanted())
    container = choose_container(pod, query.get("container", ""))
    tty = truth(query.get("tty"))
    stderr = truth(query.get("stderr")) and not tty
    wanted = Wanted(truth(query.get("stdin")), truth(query.get("stdout")), stderr, tty)
    return Asked(kind, pod, container, tuple(query.getall("command", ())) if kind == "exec" else (), wanted)


def _refusal(asked: Asked) -> web.Response | None:
    """What the kubelet refuses before it switches protocols (recorded: exec-ws-no-streams, exec-ws-done-pod)."""
    status = asked.pod.get("status") or {}
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    if asked.kind == "portforward":
        running = status.get("phase") == "Running"
        return None if running else kubelet_text(500, f'pod "{asked.pod["metadata"]["name"]}" is not running')
    wanted = asked.wanted
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        return kubelet_text(400, "you must specify at least 1 of stdin, stdout, stderr")
    found = (each for kind in kinds for each in status.get(kind) or [] if each["name"] == asked.container)
    if not any("running" in (each.get("state") or {}) for each in found):
        return kubelet_text(500, f'container not found ("{asked.container}")')
    return None


async def _channels(request: web.Request, wanted: Wanted) -> tuple[RawConnection, Channels] | web.StreamResponse:
    """Switch protocols; or the refusal."""
    if spdy.is_spdy(request):
        agreed = await spdy.accept(request, SPDY_PROTOCOLS)
        if isinstance(agreed, web.Response):
            return agreed
        raw, name = agreed
        return raw, SpdyChannels(raw, name, wanted)
    protocol = V5 if V5 in websocket.offered(request) else websocket.agree(request, WEBSOCKET_PROTOCOLS)
    socket = await websocket.accept(request, protocol)
    if isinstance(socket, Answered):
        return socket
    return socket.raw, WebSocketChannels(socket, protocol or "", wanted)


async def _reading(channels: Channels) -> None:
    with suppress(ConnectionError):  # the client went while it was answered; the work is told by its own writes
        await channels.read()


def _no_program(command: tuple[str, ...]) -> str:
    """runc's words (recorded: exec-ws-no-command, exec-ws-no-such-binary)."""
    if not command:
        return "args must not be empty"
    why = f"stat {command[0]}: no such file or directory" if "/" in command[0] else "executable file not found in $PATH"
    return f'unable to start container process: exec: "{command[0]}": {why}'


def _process(args: list[str], place: Container, channels: Channels) -> Process:
    async def out(data: bytes) -> None:
        await channels.send(STDOUT, data)

    async def err(data: bytes) -> None:
        await channels.send(STDERR, data)

    if (terminal := place.terminal) is not None:
        return Process(args, place, terminal.input, terminal.write, terminal.write, place.environment())
    if not channels.wanted.stdin:
        channels.stdin.end()
    return Process(args, place, channels.stdin, out, err, place.environment())


async def _keys(terminal: Terminal, channels: Channels) -> None:
    """Carry what is typed to the terminal; the end of what is typed is its end too."""
    with suppress(ConnectionError):
        while data := await channels.stdin.read():
            await terminal.typed(data)
        terminal.input.end()


def _resizer(terminal: Terminal) -> Callable[[Size], None]:
    def resized(size: Size) -> None:
        terminal.width, terminal.height = size.width, size.height

    return resized
