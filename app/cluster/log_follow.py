"""The log of one container, followed across lost links, server restarts and restarts of the container.

A clean end of the stream proves nothing (the API server writes one also when the kubelet dies), so every end is
followed by a look at the pod: still the same instance running: go on from the cursor; ended: fetch what was not seen,
say so, wait for the next instance. Instances are told apart by their container id and never mixed (R-09 to R-13).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.cluster.log_pod import Instance, LogApi, PodNow, pod_changes, read_pod
from app.cluster.log_stream import LINK_CHECK, SETTLED, Deliver, InstanceReader, LogRequest, Patience, Sender
from app.dialer import Link
from app.errors import JumpdeckError, NotFoundError, RefusedError
from app.rows import MarkKind
from app.tasks import Backoff
from app.text import clean

__all__ = ["Deliver", "LogFollow", "LogRequest"]

STATUS_LAG = 1.0
"""Seconds after which a kubelet has told the API server that a container has changed."""

WATCH_DENIED_WAIT = 10.0
"""Seconds between two looks at the pod where the cluster lets us read pods but not watch them."""

_DELETED = "the pod was deleted"
_REPLACED = "the pod was replaced by another of the same name"


class LogFollow:
    """One container's log. Run it once, inside the loop in which `api` lives."""

    def __init__(
        self,
        api: LogApi,
        link: Link,
        request: LogRequest,
        *,
        link_check: float = LINK_CHECK,
        backoff: Backoff | None = None,
        settled: float = SETTLED,
    ) -> None:
        self._api = api
        self._link = link
        self._request = request
        self._link_check = link_check
        self._backoff, self._settled = backoff, settled
        self._name = request.container
        self._uid = request.pod_uid
        self._instance = ""
        self._sender: Sender
        self._patience: Patience
        self._reader: InstanceReader

    async def run(self, deliver: Deliver) -> None:
        """Deliver batches until the container is gone for good (or, without follow, until the log's end).

        Waiting in `deliver` stops reading. Raises JumpdeckError: no such pod or container, refused, session failed.
        """
        self._sender = Sender(self._request, deliver)
        self._patience = Patience(self._link, self._sender, self._backoff, settled=self._settled)
        self._read_anew(anew=False)
        if self._request.previous or not self._request.follow:
            await self._reader.snapshot()
            return
        pod: PodNow | None
        if self._uid and self._request.instance:
            self._instance = self._request.instance
            pod = await self._follow_instance()
        else:
            pod = await self._pod_at_first()
        while pod is not None:
            if self._now(pod).id:
                self._uid, self._instance = pod.uid, self._now(pod).id
                pod = await self._follow_instance()
            elif pod.over(self._name):
                return
            else:
                pod = await self._wait_for(pod, lambda found: bool(self._now(found).id) or found.over(self._name))

    @property
    def followed(self) -> str:
        """Pod uid and id of the instance that is, or was last, followed; empty before the first."""
        return f"{self._uid}/{self._instance}" if self._instance else ""

    def _read_anew(self, *, anew: bool = True) -> None:
        """What follows is another instance; `anew`: from its start, whatever the request says."""
        self._patience.lost_at = None  # the divider says more than a mark of the cut
        self._reader = InstanceReader(self._api, self._request, self._sender, self._patience, anew=anew)
        self._reader.link_check = self._link_check
        self._reader.same = self._same

    def _now(self, pod: PodNow) -> Instance:
        return pod.containers.get(self._name, Instance())

    async def _follow_instance(self) -> PodNow | None:
        """Follow one instance to its end; returns the pod once there is another one, None when there will be none."""
        while True:
            await self._reader.follow()
            pod = await self._read_pod()
            if pod is None:
                await self._sender.mark(MarkKind.ENDED, _DELETED)
                return None
            if pod.uid != self._uid:
                return await self._replaced(pod)
            if self._now(pod).id != self._instance:
                return await self._restarted_unseen(pod)
            if self._now(pod).state != "running":
                break
        await self._reader.rest(previous=False)
        now = self._now(pod)
        await self._sender.mark(MarkKind.ENDED, _ended(now.exit_code, now.reason))
        return await self._next_instance(pod)

    async def _next_instance(self, pod: PodNow) -> PodNow | None:
        """This instance is fully read: wait until there is another."""
        found = await self._wait_for(
            pod, lambda each: each.uid != self._uid or self._is_next(each) or each.over(self._name)
        )
        if found is None:
            await self._sender.mark(MarkKind.ENDED, _DELETED)
            return None
        if found.uid != self._uid:
            return await self._replaced(found)
        if not self._is_next(found):
            return None
        if self._now(found).previous_id in ("", self._instance):
            await self._restarted(found)
        else:
            await self._skipped_runs(found)
        return found

    def _is_next(self, pod: PodNow) -> bool:
        return self._now(pod).id not in ("", self._instance)

    async def _restarted_unseen(self, pod: PodNow) -> PodNow:
        """Another instance runs: fetch the end of the one that was followed, if the kubelet still has it."""
        now = self._now(pod)
        if now.previous_id != self._instance:
            await self._skipped_runs(pod)
            return pod
        if not await self._reader.rest(previous=True):
            await self._sender.mark(MarkKind.GAP, "lines may be missing: the log before the restart is gone")
        await self._sender.mark(MarkKind.ENDED, _ended(now.previous_exit, now.previous_reason))
        await self._restarted(pod)
        return pod

    async def _skipped_runs(self, pod: PodNow) -> None:
        """More than one restart since the last look: the last run but one is all that a kubelet still has."""
        now = self._now(pod)
        await self._sender.mark(MarkKind.GAP, "lines are missing: the container restarted more than once meanwhile")
        if now.previous_id:
            self._read_anew()
            if await self._reader.rest(previous=True):
                await self._sender.mark(MarkKind.ENDED, _ended(now.previous_exit, now.previous_reason))
        await self._restarted(pod)

    async def _restarted(self, pod: PodNow) -> None:
        times = self._now(pod).restarts
        await self._sender.mark(MarkKind.RESTARTED, f"the container was restarted (restart {times})")
        self._read_anew()

    async def _replaced(self, pod: PodNow) -> PodNow:
        await self._sender.mark(MarkKind.RESTARTED, _REPLACED)
        self._read_anew()
        return pod

    async def _same(self) -> bool:
        """Whether the pod still has the instance that is followed; looks twice, because its status comes late."""
        pod = await self._read_pod()
        for wait in (STATUS_LAG, 0.0):
            if pod is None or pod.uid != self._uid or self._now(pod).id != self._instance:
                return False
            if wait:
                await asyncio.sleep(wait)
                pod = await self._read_pod()
        return True

    async def _pod_at_first(self) -> PodNow:
        asked = self._request
        pod = await self._read_pod()
        if pod is None:
            raise NotFoundError(
                f"pod {clean(asked.pod)} does not exist", f"namespace {clean(asked.namespace)}",
                "Check the name and the namespace.", code="JD-LOG-NO-POD",
            )  # fmt: skip
        if self._name not in pod.containers:
            raise NotFoundError(
                f"pod {clean(asked.pod)} has no container {clean(self._name)}",
                "it has " + ", ".join(clean(name) for name in pod.containers), "",
                code="JD-LOG-NO-CONTAINER", layer="log",
            )  # fmt: skip
        return pod

    async def _read_pod(self) -> PodNow | None:
        """The pod, read until it can be; None when there is none."""
        while True:
            try:
                await self._link.wait_up()
                return await read_pod(self._api, self._request.namespace, self._request.pod)
            except JumpdeckError as error:
                await self._patience.after(error)

    async def _wait_for(self, pod: PodNow, ready: Callable[[PodNow], bool]) -> PodNow | None:
        """The pod at the first moment at which `ready` holds, by one watch; None when it was deleted before."""
        found: PodNow | None = pod
        while found is not None and not ready(found):
            try:
                await self._link.wait_up()
                found = await self._changed(found, ready)
            except RefusedError:
                await asyncio.sleep(WATCH_DENIED_WAIT)
                found = await self._read_pod()
            except JumpdeckError as error:
                if error.code != "JD-API-GONE":
                    await self._patience.after(error)
                found = await self._read_pod()
        return found

    async def _changed(self, pod: PodNow, ready: Callable[[PodNow], bool]) -> PodNow | None:
        found: PodNow | None = pod
        async for found in pod_changes(self._api, self._request.namespace, self._request.pod, pod.version):
            self._link.alive()
            if found is None or ready(found):
                return found
        return found


def _ended(exit_code: int | None, reason: str) -> str:
    """`the container ended with exit code 7 (Error)`."""
    text = "the container ended" if exit_code is None else f"the container ended with exit code {exit_code}"
    return f"{text} ({reason})" if reason else text
