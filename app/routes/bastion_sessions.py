"""The sessions that a Bastion has given us: each stands for one stream, and every one of them is deleted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from app.routes.bastion_tokens import BastionTokens, Exchange, Grant
from app.routes.websocket import WebSocket
from app.tasks import Backoff, spawn

AT_ONCE = 8
"""Deletions under way at once: fifty streams that end together do not open fifty connections."""
TRIES = 3
"""How often a deletion is tried before the session is left to the service's own idle limit."""

_log = logging.getLogger(__name__)


class Carriage:
    """A WebSocket that stands, and the session that is deleted with it; `released` hears of that, once."""

    def __init__(self, socket: WebSocket, grant: Grant, released: Callable[[Carriage], None]) -> None:
        self.socket, self.grant = socket, grant
        self._released: Callable[[Carriage], None] | None = released

    def release(self) -> None:
        """Drop the connection and have the session deleted. More than once is as good as once."""
        released, self._released = self._released, None
        if released is not None:
            self.socket.abort()
            released(self)


class Sessions:
    """All sessions of one open hop. Deletions run beside everything else, until `aclose` waits for them."""

    def __init__(self, tokens: BastionTokens, name: str) -> None:
        self._tokens, self._name = tokens, name
        self._standing: set[Carriage] = set()
        self._ends: set[asyncio.Task[None]] = set()
        """Deletions, and waits for exchanges whose session nobody wants any more."""
        self._deleting = asyncio.Semaphore(AT_ONCE)
        self._deleted = self._left = 0

    def carry(self, socket: WebSocket, grant: Grant) -> Carriage:
        """A session has its WebSocket."""
        carriage = Carriage(socket, grant, self._released)
        self._standing.add(carriage)
        return carriage

    def forsake(self, issuing: asyncio.Task[Grant], exchange: Exchange) -> None:
        """Nobody wants this session: it is deleted once it was given out, and not asked for where it was not yet."""

        async def await_it() -> None:
            try:
                await asyncio.wait({issuing})
            finally:
                issuing.cancel()
            self._delete_if_given(issuing)

        if not exchange.sent:
            issuing.cancel()  # its token may wait for a person, who would be asked for nothing
        if issuing.done():
            self._delete_if_given(issuing)
        else:
            self._keep(await_it(), "await a session")

    def delete_soon(self, grant: Grant) -> None:
        """Delete a session beside everything else."""
        self._keep(self._delete(grant), "delete a session")

    def facts(self) -> str:
        """How many there are, for people."""
        many = len(self._standing)
        parts = [f"{many} session{'' if many == 1 else 's'} open"]
        if self._deleted:
            parts.append(f"{self._deleted} deleted")
        if self._left:
            parts.append(f"{self._left} not deleted")
        return ", ".join(parts)

    def release_all(self) -> None:
        """Drop every WebSocket and have every session deleted."""
        for carriage in tuple(self._standing):
            carriage.release()

    async def settle(self, limit: float) -> int:
        """Wait for what is under way; how much was not done in time, and is cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + limit
        while self._ends and (left := due - loop.time()) > 0:
            await asyncio.wait(tuple(self._ends), timeout=left)
        unfinished = tuple(self._ends)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=limit)
            _log.warning("%s: %d sessions could not be deleted in time", self._name, len(unfinished))
        return len(unfinished)

    def _released(self, carriage: Carriage) -> None:
        self._standing.discard(carriage)
        self.delete_soon(carriage.grant)

    def _delete_if_given(self, issuing: asyncio.Task[Grant]) -> None:
        if not issuing.cancelled() and issuing.exception() is None:
            self.delete_soon(issuing.result())

    def _keep(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        task = spawn(coro, name=f"bastion {self._name}: {name}")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _delete(self, grant: Grant) -> None:
        backoff = Backoff(base=1.0, cap=10.0)
        for number in range(TRIES):
            async with self._deleting:
                if await self._tokens.delete(grant):
                    self._deleted += 1
                    return
            if number + 1 < TRIES:
                await asyncio.sleep(backoff.next())
        self._left += 1
