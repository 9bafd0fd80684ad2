"""Tasks with a name, an owner and an awaited end; waits with a limit; retries with full jitter."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

CLOSE_LIMIT = 3.0
"""Seconds that an owner waits for its cancelled tasks: a window that closes leaves five in all (Windows)."""


def spawn(coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start a task that has a name. The caller owns it: it keeps the reference, and cancels and awaits it in the end.

    This is the one place that creates tasks (the linter bans `asyncio.create_task` elsewhere).
    """
    return asyncio.get_running_loop().create_task(coro, name=name)


async def outlast(task: asyncio.Task[Any]) -> bool:
    """Wait for a task that is not to be given up; whether the caller was cancelled meanwhile."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


class TaskOwner:
    """Keeps tasks until they end, and ends them with itself.

    A task that fails hands its exception to the loop's exception handler, so that no failure is lost in silence.
    Use as an async context manager, or call `aclose`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start a task that this owner ends."""
        task = spawn(coro, name=f"{self.name}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": f"task failed: {task.get_name()}", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    async def aclose(self, limit: float = CLOSE_LIMIT) -> None:
        """Cancel what still runs and wait for its end, at most `limit` seconds."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=limit)

    async def __aenter__(self) -> TaskOwner:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def in_own_thread(call: Callable[[], T], *, name: str) -> T:
    """Run a call that may block for ever in a daemon thread: neither the loop nor the end of the process waits for it.

    (`asyncio.to_thread` is for what ends by itself: its threads are joined at exit.) Cancelling leaves the thread
    alone; put the wait's limit around it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def hand_over(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None only when T allows it

    def work() -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits
            loop.call_soon_threadsafe(hand_over, result, failure)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await done


class Backoff:
    """Seconds to wait before the next try: full jitter, `uniform(floor, min(cap, base * 2**n))`.

    `reset()` after the thing has been up for `settled` seconds, so that a flapping link does not hammer. A far end that
    names its own wait (Retry-After) wins when it asks for more.
    """

    def __init__(
        self, *, base: float = 0.5, cap: float = 30.0, floor: float = 0.2, rng: random.Random | None = None
    ) -> None:
        self.base, self.cap, self.floor = base, cap, floor
        self.tries = 0
        self._rng = rng or random.Random()  # noqa: S311 (jitter is no secret)

    def next(self, retry_after: float | None = None) -> float:
        """The next wait in seconds; counts one more try."""
        top = min(self.cap, self.base * 2 ** min(self.tries, 30))
        self.tries += 1
        return max(self._rng.uniform(self.floor, max(top, self.floor)), retry_after or 0.0)

    def reset(self) -> None:
        """Forget earlier failures."""
        self.tries = 0
