"""Whether this computer reaches what cluster connect needs: relay, notification service, ARM, sign-in, downloads.

Source: Microsoft's network requirements of Azure Arc-enabled Kubernetes. The relay's hosts of a region are not fixed:
the notification service lists them (`GET /urls/allowlist?api-version=2020-01-01&location=REGION`, without sign-in), as
a flat JSON array in which hosts may stand twice.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from app.arc.child_env import proxy_of_program
from app.arc.cloud import DataPlane, data_plane
from app.arc.preflight import region_of
from app.azure.failures import from_exception
from app.errors import JumpdeckError
from app.outbound import choose_proxy, is_loopback, make_trust
from app.records import Record
from app.tasks import spawn
from app.text import clean, prose

if TYPE_CHECKING:
    import ssl

    import aiohttp
    import aiohttp.abc

    from app.azure.context import Azure
    from app.identity.clouds import CloudEndpoints

HOST_LIMIT = 10.0
"""Seconds for one host, the proxy's part included."""
WHOLE_LIMIT = 30.0
"""Seconds for all of them; what is not done by then is said so."""
SIDE_BY_SIDE = 8
"""Hosts checked at once."""
MAX_LISTED = 32
"""Hosts of the allow-list that are checked; a region has about ten."""
LIST_LIMIT = 256 << 10
"""Bytes of the allow-list; one has two thousand."""
LIST_VERSION = "2020-01-01"

_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*(?::\d{1,5})?")
_REGISTRY = "mcr.microsoft.com"


class Endpoint(Record):
    """A host that is needed."""

    host: str
    purpose: str
    port: int = 443
    needed: bool = True
    """Whether nothing works without it; else it is only asked for by the documentation."""
    by_program: bool = False
    """Whether the local proxy goes there: it chooses its way out as programs in Go do."""

    @property
    def at(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


class Checked(Record):
    """One row of the result. Texts are cleaned."""

    endpoint: Endpoint
    ok: bool
    why: str
    """What was seen, or why it failed."""
    hint: str = ""
    seconds: float = 0.0
    code: str = ""
    """Of the failure."""
    proxy: str = ""
    """The web proxy that was to lead there, `host:port`."""


class Suffixes(Record):
    """Where a cloud's services are."""

    relay: str
    notification: str
    sign_in: tuple[str, ...] = ()
    """Hosts beside the authority; `{region}` stands for the region."""


SUFFIXES = {
    "public": Suffixes(
        "servicebus.windows.net", "guestnotificationservice.azure.com",
        ("{region}.login.microsoft.com", "login.windows.net", "sts.windows.net"),
    ),
    "us-government": Suffixes("servicebus.usgovcloudapi.net", "guestnotificationservice.azure.us"),
    "china": Suffixes(
        "servicebus.chinacloudapi.cn", "guestnotificationservice.azure.cn",
        ("login.partner.microsoftonline.cn", "sts.chinacloudapi.cn"),
    ),
}  # fmt: skip


def suffixes_of(cloud: CloudEndpoints, plane: DataPlane | None) -> Suffixes:
    """The suffixes of a cloud; one of our own is like public but for what its ARM names, or its table in the file."""
    found = SUFFIXES.get(cloud.name)
    if found is not None:
        return found
    if plane is None:
        found = SUFFIXES["public"]
    else:
        found = Suffixes(plane.relay_suffix, _authority(plane.notification) if plane.notification else "")
    own = dict(cloud.suffixes)
    return Suffixes(
        own.get("relay", found.relay), own.get("guest-notification", found.notification), found.sign_in
    )


def fixed_endpoints(cloud: CloudEndpoints, suffixes: Suffixes, region: str, download: bool) -> tuple[Endpoint, ...]:
    """The hosts that are known without asking, needed ones first."""
    region = region_of(region)
    found = [
        endpoint(_authority(cloud.resource_manager), "Azure Resource Manager"),
        endpoint(_authority(cloud.authority), "sign-in"),
    ]
    if suffixes.notification:
        found.append(_notification(suffixes))
    for host in suffixes.sign_in:
        if region or "{region}" not in host:
            found.append(endpoint(host.format(region=region), "sign-in", needed=False))
    if download:
        found.append(endpoint(_REGISTRY, "download of the local proxy (and *.data.mcr.microsoft.com)", needed=False))
    return tuple(found)


def relay_endpoint(suffixes: Suffixes, relay: str) -> Endpoint:
    """The host of a relay's namespace, as ARM names it."""
    return _of_relay(relay if "." in relay else f"{relay}.{suffixes.relay}")


def _of_relay(authority: str) -> Endpoint:
    return endpoint(authority, "relay (WebSocket)", by_program=True)


def _notification(suffixes: Suffixes) -> Endpoint:
    return endpoint(suffixes.notification, "guest notification service", needed=False, by_program=True)


def endpoint(authority: str, purpose: str, *, needed: bool = True, by_program: bool = False) -> Endpoint:
    """Of `host` or `host:port`."""
    host, _, port = authority.partition(":")
    return Endpoint(clean(host), purpose, int(port) if port.isdecimal() else 443, needed, by_program)


def listed_hosts(body: bytes) -> tuple[str, ...]:
    """The hosts of an allow-list in its order, each once, at most `MAX_LISTED`. Raises ValueError when it is none."""
    found = json.loads(body)
    if not isinstance(found, list):
        raise ValueError("it is no list")
    texts = (one for one in found if isinstance(one, str))
    hosts = (one.strip().lower().removeprefix("https://").rstrip("./") for one in texts)
    return tuple(dict.fromkeys(host for host in hosts if _HOST.fullmatch(host)))[:MAX_LISTED]


async def check_prerequisites(
    azure: Azure, region: str, *, proxy: str | None = None, relay: str = "", download: bool = False,
    limit: float = WHOLE_LIMIT,
) -> tuple[Checked, ...]:  # fmt: skip
    """The rows, in the order of the way: ARM, sign-in, notification, relays.

    `region` is the cluster's (empty: only fixed hosts), `relay` the namespace that ARM named, `download` adds the
    vendor's registry, `proxy` is the profile's, `limit` seconds for all hosts. Raises ProfileError for a CA file; what
    it finds is in the rows.
    """
    trust = await asyncio.to_thread(make_trust, azure.endpoints.ca_file)
    try:
        plane = await data_plane(azure)
    except JumpdeckError:
        plane = None  # its row says why
    suffixes = suffixes_of(azure.endpoints, plane)
    wanted = list(fixed_endpoints(azure.endpoints, suffixes, region, download))
    async with _Checker(trust, proxy) as checker:
        if relay:
            wanted.append(relay_endpoint(suffixes, relay))
        listing: Checked | None = None
        if suffixes.notification and region_of(region):
            hosts, listing = await checker.listed(suffixes.notification, region_of(region))
            known = {one.at for one in wanted}
            listed = (_of_relay(host) for host in hosts)
            wanted += [one for one in listed if one.at not in known]
        rows = await checker.check(wanted, limit)
    if listing is None:
        return rows
    return tuple(listing if row.endpoint == listing.endpoint and row.ok else row for row in rows)


async def check_relay(
    azure: Azure, relay: str, *, proxy: str | None = None, limit: float = HOST_LIMIT
) -> tuple[Checked, ...]:
    """Rows of the relay that ARM named and of the notification service, for a tunnel behind which nobody answers.

    `relay` may be empty: it is not known then. `limit` is seconds for all of it.
    """
    try:
        async with asyncio.timeout(limit):
            trust = await asyncio.to_thread(make_trust, azure.endpoints.ca_file)
            plane = await data_plane(azure)
    except JumpdeckError as error:
        return (Checked(_of_relay(relay), False, str(error), error.hint, code=error.code),)
    except TimeoutError:
        return (Checked(_of_relay(relay), False, f"Azure's names of it are not known within {limit:g} s"),)
    suffixes = suffixes_of(azure.endpoints, plane)
    wanted = [relay_endpoint(suffixes, relay)] if relay else []
    if suffixes.notification:
        wanted.append(_notification(suffixes))
    async with _Checker(trust, proxy) as checker:
        return await checker.check(wanted, limit, late=f"no answer within {limit:g} s")


def summary(rows: tuple[Checked, ...]) -> str:
    """One line: what is not reached, or that all is."""
    failed = [row for row in rows if not row.ok]
    if not failed:
        return f"all {len(rows)} hosts reached" if len(rows) != 1 else f"{rows[0].endpoint.at} is reached"
    return "; ".join(f"{row.endpoint.purpose} {row.endpoint.at} is not reached ({row.why})" for row in failed)


class _Checker:
    """Asks hosts over TLS, through the proxy; any answer of a server that is trusted counts."""

    def __init__(self, trust: ssl.SSLContext, proxy: str | None) -> None:
        self._trust, self._proxy = trust, proxy
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def __aenter__(self) -> _Checker:
        await asyncio.to_thread(_load)
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._trust, limit=SIDE_BY_SIDE, force_close=True, resolver=_names(), use_dns_cache=False
            ),
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(
        self, endpoints: list[Endpoint], limit: float = WHOLE_LIMIT, *, late: str = ""
    ) -> tuple[Checked, ...]:
        """A row for each, in their order; `late` is said of those without an answer in time."""
        if not endpoints:
            return ()
        tasks = [spawn(self._one(one), name=f"check {one.at}") for one in endpoints]
        try:
            await asyncio.wait(tasks, timeout=limit)
            late = late or f"not checked within {limit:g} s"
            return tuple(
                task.result() if task.done() else Checked(one, False, late, _hint(one), limit, proxy=self._shown(one))
                for one, task in zip(endpoints, tasks, strict=True)
            )  # fmt: skip
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def listed(self, notification: str, region: str) -> tuple[tuple[str, ...], Checked | None]:
        """The relay's hosts of a region, and the row of the service when it does not list them."""
        at = endpoint(notification, "guest notification service", needed=False, by_program=True)
        url = f"/urls/allowlist?{urlencode({'api-version': LIST_VERSION, 'location': region})}"
        try:
            status, body = await self._get(at, url, LIST_LIMIT)
        except JumpdeckError as error:
            return (), self._failed(at, error, 0.0)
        try:
            if status != 200:
                raise ValueError(f"HTTP {status}")
            return listed_hosts(body), None
        except (ValueError, RecursionError) as error:
            why = f"it does not list the relay's hosts of {clean(region)}: {prose(str(error), 120)}"
            return (), Checked(at, False, why, "Check the region, or whether a portal stands in between.")

    async def _one(self, at: Endpoint) -> Checked:
        async with self._turns:
            began = time.monotonic()
            try:
                status, _ = await self._get(at, "/", 0)
            except JumpdeckError as error:
                return self._failed(at, error, time.monotonic() - began)
            return Checked(at, True, f"reached (HTTP {status})", "", time.monotonic() - began)

    async def _get(self, at: Endpoint, path: str, limit: int) -> tuple[int, bytes]:
        """Status and at most `limit` bytes of the body. Raises JumpdeckError."""
        import aiohttp

        assert self._session is not None
        proxy = self._way_out(at)
        try:
            async with (
                asyncio.timeout(HOST_LIMIT),
                self._session.get(f"https://{at.at}{path}", proxy=proxy, allow_redirects=False) as answer,
            ):
                body = bytearray()
                async for piece in answer.content.iter_chunked(1 << 14):
                    if not limit or len(body) > limit:
                        break
                    body += piece
                return answer.status, bytes(body[:limit])
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a limit that has passed is an OSError
            raise from_exception(error, f"GET {path.partition('?')[0]}", at.at, self._shown(at)) from error

    def _way_out(self, at: Endpoint) -> str | None:
        """The web proxy's URL."""
        found = proxy_of_program(at.host, self._proxy) if at.by_program else choose_proxy(at.host, self._proxy)
        return found if found is None or "://" in found else f"http://{found}"

    def _shown(self, at: Endpoint) -> str:
        return clean((self._way_out(at) or "").rpartition("@")[2].rpartition("://")[2].rstrip("/"))

    def _failed(self, at: Endpoint, error: JumpdeckError, seconds: float) -> Checked:
        proxy_is_away = error.code == "JD-ARM-PROXY" and error.transient
        hint = error.hint if proxy_is_away else _hint(at, error.hint)
        return Checked(at, False, str(error), hint, seconds, error.code, self._shown(at))


def _hint(at: Endpoint, more: str = "") -> str:
    if not at.purpose.startswith("relay"):
        return more
    suffix = at.host.partition(".")[2] or at.host
    return f"Have *.{suffix} let through on 443, WebSockets included. {more}".strip()


def _names() -> aiohttp.abc.AbstractResolver:
    """Asks the system, but never for `localhost` and what ends in it: that is this computer (RFC 6761 §6.3)."""
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Names(AbstractResolver):
        def __init__(self) -> None:
            self._system = aiohttp.ThreadedResolver()

        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
            if not is_loopback(host):
                return await self._system.resolve(host, port, socket.AddressFamily(family))
            here = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
            return [
                ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)
                for kind, address in here if family in (socket.AF_UNSPEC, kind)
            ]  # fmt: skip

        async def close(self) -> None:
            await self._system.close()

    return Names()


def _authority(url: str) -> str:
    """`host` or `host:port` of a URL, or of what is one already."""
    return (urlsplit(url).netloc if "://" in url else url.partition("/")[0]).rpartition("@")[2]


def _load() -> None:
    import aiohttp  # noqa: F401
