"""An API server with one pod that has written a long log, in a process of its own: raw sockets, precomputed bytes.

`python -m bench.log_server --lines 1000000` prints one line `ready PORT` and serves until its standard input ends. A
follow sends all lines in HTTP chunks of 16 KiB, as a real API server does, then the line `sentinel`, then nothing.
With `--rate` it sends that many lines a second instead, for ever; with `--tls FOLDER` it speaks TLS (its server.pem).
Lines are JSON, coloured and plain ones, 121 bytes in the mean, at 100,000 a second by their stamps.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import threading
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bench.listening import listen, server_tls
from bench.mock_api import DISCOVERY, respond

CHUNK = 16 << 10
RATE = 100_000
BASE = 1_790_000_000
SENTINEL = b"sentinel"

POD = {
    "kind": "Pod", "apiVersion": "v1",
    "metadata": {"name": "talker", "namespace": "default", "uid": "uid-talker", "resourceVersion": "7",
                 "creationTimestamp": "2026-11-22T04:22:07Z"},
    "spec": {"containers": [{"name": "app"}], "nodeName": "node-1", "restartPolicy": "Always"},
    "status": {"phase": "Running", "containerStatuses": [
        {"name": "app", "ready": True, "restartCount": 0, "state": {"running": {}}, "containerID": "containerd://talker"}
    ]},
}  # fmt: skip

SHAPES = (
    b'{"level":"info","ts":"12:00:01.123","msg":"captured payment","order":%d,"latency_ms":31,"user":"u-18231"}',
    b"\x1b[32mINFO\x1b[0m  checkout.capture order=%d captured in 31 ms, ledger entry written, reply sent to gateway",
    b'10.244.3.17 - - [22/Nov/2026:12:00:01 +0000] "POST /v1/orders/%d/capture HTTP/1.1" 200 512 "-" "gateway/2.1"',
)


@cache
def log(lines: int, stamped: bool) -> bytes:
    """The whole answer body in chunked framing, up to the sentinel."""
    parts: list[bytes] = []
    second = stamp = b""
    for number in range(lines):
        if number % RATE == 0:
            second = datetime.fromtimestamp(BASE + number // RATE, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        if stamped:
            stamp = b"%s.%09dZ " % (second, number % RATE * 10_000)
        parts.append(stamp + SHAPES[number % 3] % number + b"\n")
    parts.append((b"2026-12-01T00:00:00.000000000Z " if stamped else b"") + SENTINEL + b"\n")
    body = b"".join(parts)
    pieces = (body[at : at + CHUNK] for at in range(0, len(body), CHUNK))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def answer(connection: socket.socket, target: str, lines: int, rate: int) -> None:
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.path in DISCOVERY:
        respond(connection, json.dumps(DISCOVERY[parts.path]).encode(), "application/json")
    elif parts.path.endswith("/log"):
        stream(connection, log(lines, query.get("timestamps") == "true"), rate, lines)
    elif parts.path.endswith("/talker"):
        respond(connection, json.dumps(POD).encode(), "application/json")
    elif query.get("watch"):
        stream(connection, b"")
    else:
        listed = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": [POD]}
        respond(connection, json.dumps(listed).encode(), "application/json")


def stream(connection: socket.socket, body: bytes, rate: int = 0, lines: int = 1) -> None:
    """Headers, the body, and then silence; with a rate the body comes over and over, evenly."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    if not rate:
        connection.sendall(body)
        threading.Event().wait(600)
    began, sent = time.perf_counter(), 0
    share = len(body) / lines
    while rate:
        due = int((time.perf_counter() - began) * rate * share)
        while sent < due:
            at = sent % len(body)
            piece = body[at : at + min(due - sent, 1 << 18)]
            connection.sendall(piece)
            sent += len(piece)
        time.sleep(0.01)


def serve(listened: socket.socket, lines: int, rate: int, context: ssl.SSLContext | None) -> None:
    """Answer requests on one connection until the client goes."""
    try:
        connection = context.wrap_socket(listened, server_side=True) if context else listened
        reader = connection.makefile("rb")
        while request := reader.readline():
            while reader.readline().strip():
                pass
            answer(connection, request.split(b" ")[1].decode(), lines, rate)
    except (OSError, ValueError):
        pass
    finally:
        listened.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--tls", type=Path)
    args = parser.parse_args()
    lines = args.lines
    context = server_tls(args.tls)
    for stamped in (True, False):
        log(lines, stamped)
    listen(lambda plain: serve(plain, lines, args.rate, context))


if __name__ == "__main__":
    main()
