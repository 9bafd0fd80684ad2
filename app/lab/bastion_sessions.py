"""The sessions of the lab's Azure Bastion: tokens given out, what became of them, and the counts for tests."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from app.lab.bastion_tunnel import Tunnel
from app.lab.door import Reach

MAX_SESSIONS = 1_000
"""Sessions that stand at once at most: what a client leaks does not fill the memory."""

TOKEN_LIFE = 60.0
"""Seconds in which a WebSocket token has to be used. The service's own value is unknown."""

NODES = tuple(base64.b64encode(name).decode() for name in (b"lab-node-0", b"lab-node-1"))
"""The node ids of a host with two scale units. A session is known at its own node only."""

Refusal = Literal["unknown", "used", "node"]
"""Why a WebSocket token is not good: never heard of (or ended, or too old), used before, or shown to another node."""


@dataclass
class Counters:
    """What has happened at a bastion host. Tests wait for a state of it with `until`."""

    issued: int = 0
    """Token exchanges that gave out a session."""
    refused: int = 0
    """Token exchanges that did not."""
    chained: int = 0
    """Token exchanges that named an earlier session (`token` or X-Node-Id): ours never do."""
    deleted: int = 0
    """Sessions that were deleted."""
    deleted_again: int = 0
    """Deletions of sessions that are not there."""
    standing: int = 0
    """Sessions that were given out and not deleted: leaked ones, once all is over."""
    upgrades: int = 0
    """Answers of 101, those by a fault too."""
    refused_upgrades: int = 0
    open: int = 0
    """WebSockets that are open now."""
    most_open: int = 0
    targets: Counter[str] = field(default_factory=Counter)
    """Sessions given out by target: the resource id in lower case, a colon, the port."""
    _news: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def changed(self) -> None:
        """Tell those who wait."""
        self.most_open = max(self.most_open, self.open)
        self._news.set()

    async def until(self, seen: Callable[[Counters], bool]) -> None:
        """Wait for a state; the limit is the caller's."""
        while not seen(self):
            self._news.clear()
            await self._news.wait()


@dataclass
class Session:
    """One standing session."""

    auth_token: str = field(repr=False)
    websocket_token: str = field(repr=False)
    node_id: str
    target: str
    reach: Reach | None
    """None when nothing listens at the target's port."""
    due: float
    """The time of the loop until which the WebSocket token is good."""
    used: bool = False
    tunnel: Tunnel | None = None


class Sessions:
    """All sessions of one host."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._standing: dict[str, Session] = {}
        self._by_websocket: dict[str, Session] = {}
        self._next_node = 0

    def issue(self, target: str, reach: Reach | None, node_id: str = "") -> Session | None:
        """A new session, at that node when it is one; None when there are too many."""
        if len(self._standing) >= MAX_SESSIONS:
            return None
        if node_id not in NODES:
            node_id = NODES[self._next_node % len(NODES)]
            self._next_node += 1
        due = asyncio.get_running_loop().time() + TOKEN_LIFE
        session = Session(secrets.token_hex(32).upper(), secrets.token_urlsafe(48), node_id, target, reach, due)
        self._standing[session.auth_token] = self._by_websocket[session.websocket_token] = session
        self._counters.issued += 1
        self._counters.standing += 1
        self._counters.targets[target] += 1
        self._counters.changed()
        return session

    def redeem(self, websocket_token: str, node_id: str | None) -> Session | Refusal:
        """Use up a WebSocket token. `node_id` is None where none is asked for."""
        session = self._by_websocket.get(websocket_token)
        if session is None or session.due < asyncio.get_running_loop().time():
            return "unknown"
        if node_id is not None and node_id != session.node_id:
            return "node"
        if session.used:
            return "used"
        session.used = True
        return session

    def without_node(self, auth_token: str) -> bool:
        """Whether the client of a standing session was told of no node."""
        session = self._standing.get(auth_token)
        return session is not None and not session.node_id

    def delete(self, auth_token: str, node_id: str) -> bool:
        """End a session and its tunnel; False when there is none at that node."""
        session = self._standing.get(auth_token)
        if session is None or session.node_id != node_id:
            self._counters.deleted_again += 1
            self._counters.changed()
            return False
        del self._standing[auth_token], self._by_websocket[session.websocket_token]
        self._counters.deleted += 1
        self._counters.standing -= 1
        self._counters.changed()
        if session.tunnel is not None:
            session.tunnel.end()
        return True
