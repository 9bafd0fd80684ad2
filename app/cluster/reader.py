"""What the console and the command line read of a cluster, in one place.

This one reads the API server; `app.cluster.invoke` is its like for command invoke (no stream, snapshots on demand).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from app.dialer import Link
from app.profiles.model import Profile
from app.rows import EventRow, PodRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    import aiohttp

    from app.cluster.api import ApiClient
    from app.cluster.log_follow import LogFollow, LogRequest
    from app.cluster.pods import PodScope, PodWatch
    from app.cluster.tail import Tail, TailNews, TailQuery


class ClusterReader:
    """Reads through one session. Every method raises JumpdeckError only; modules are loaded when first needed.

    It lasts as long as the session. `api` is the client of the moment: another one after the access was read anew.
    """

    live: Literal[True] = True
    """Watches and follows go on by themselves."""

    def __init__(self, api: ApiClient, link: Link, profile: Profile, namespace: str) -> None:
        self.api = api
        self.link = link
        self.profile = profile
        self.namespace = namespace

    @property
    def home_namespaces(self) -> tuple[str, ...]:
        """Where to look without a choice: the profile's namespaces, else the context's, else `default`."""
        return self.profile.namespaces or (self.namespace or "default",)

    def pods(self, scope: PodScope) -> PodWatch:
        """Live pods of a scope; run it to receive snapshots."""
        from app.cluster.pods import PodWatch

        return PodWatch(self.api, self.link, scope)

    def log(self, request: LogRequest, link: Link | None = None) -> LogFollow:
        """The log of one container; run it to receive batches. `link`: another one than the session itself."""
        from app.cluster.log_follow import LogFollow

        return LogFollow(_ApiOfTheMoment(self), link or self.link, request)

    def tail(self, query: TailQuery, news: Callable[[TailNews], None] | None = None) -> Tail:
        """The logs of many pods, new ones joining. `news` hears what is not a line."""
        from app.cluster.tail import Tail

        return Tail(self.api, self.link, query, news)

    async def events(self, namespace: str, *, about: PodRow | None = None) -> list[EventRow]:
        """Events of a namespace, or of one pod, oldest first."""
        from app.cluster.events import list_events

        return await list_events(self.api, namespace, about=about)

    async def namespaces(self) -> list[str]:
        """Names of all namespaces. RefusedError where listing them is forbidden."""
        from app.cluster.namespaces import list_namespaces

        return await list_namespaces(self.api)

    async def may_list_all_pods(self) -> bool:
        """Whether pods of all namespaces may be listed (SelfSubjectAccessReview)."""
        from app.cluster.review import may

        return await may(self.api, "list", "pods", "")

    async def whoami(self) -> str:
        """Whom the API server takes us for (SelfSubjectReview)."""
        from app.cluster.review import whoami

        return await whoami(self.api)

    async def describe(self, pod: PodRow) -> str:
        """A pod as `kubectl describe` would tell it; cleaned text of several lines."""
        from app.cluster.review import describe_pod

        return await describe_pod(self.api, pod)


class _ApiOfTheMoment:
    """What a log reads with, so that it goes on with the session's next client where the one before was given up."""

    def __init__(self, reader: ClusterReader) -> None:
        self._reader = reader

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> bytes:
        return await self._reader.api.get(path, params)

    @asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str | int] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        api = self._reader.api
        async with api.stream(path, params) as response:
            yield response
