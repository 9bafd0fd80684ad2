"""From a profile to an open tunnel: what Azure says, the relay's credential, the program, who we are, register.

Each step shows itself. Where the native way is not possible the same is done by `az connectedk8s proxy`, and said.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.arc import program, steps
from app.arc.child_env import child_environment
from app.arc.cloud import cloud_config
from app.arc.consent import end_orphans, fetch_agreed, orphan_question
from app.arc.control import KeyExpired
from app.arc.credential import RelayCredential, list_user_credential
from app.arc.download import REGISTRY
from app.arc.native import NativeTunnel, Source
from app.arc.ports import HOST
from app.arc.preflight import ArcFacts, preflight
from app.arc.process import ArcProcess
from app.arc.program import Program
from app.arc.run_records import find_orphans
from app.asking import Consents
from app.errors import JumpdeckError
from app.identity.claims import of_token
from app.identity.identity import AccessToken
from app.identity.pop import PopUnable, client_id, pop_token, refusal
from app.outbound import choose_proxy, environment_proxy
from app.profiles.model import ArcCluster, Profile, ProxyHop
from app.records import Record
from app.text import clean

if TYPE_CHECKING:
    from pathlib import Path

    from app.arc.tunnel import Tunnel
    from app.asking import Asker
    from app.azure.context import Azure
    from app.secrets.secret import Secret

Show = Callable[[str], AbstractAsyncContextManager[None]]

_BY_AZ = ("JD-ARC-PROGRAM", "JD-ARC-PLATFORM", "JD-ARC-ANSWER")
"""Failures of the native way that az need not have: no program that may be run, or one whose interface is another."""
_IGNORED = "HTTPS_PROXY is set without NO_PROXY=localhost,127.0.0.1; it is ignored for the local proxy"
_left: set[Path] = set()
"""Run folders of orphans that the person wants to be left alone."""


class Opened(Record):
    """An open tunnel and what was learnt on the way."""

    tunnel: Tunnel
    facts: ArcFacts
    relay: str = ""
    """The relay's namespace; empty where az alone knows it."""


class Opening:
    """One try to open the tunnel of one profile. `token` brings the service account's token where there is one."""

    def __init__(
        self, profile: Profile, azure: Azure, show: Show, *, asker: Asker | None = None,
        token: Callable[[], Awaitable[Secret]] | None = None,
    ) -> None:  # fmt: skip
        assert isinstance(profile.cluster, ArcCluster), "the caller looks"
        self._profile, self._azure, self._show, self._asker, self._token = profile, azure, show, asker, token
        self._cluster = profile.cluster
        self._correlation = str(uuid.uuid4())

    async def open(self) -> Opened:
        """Go through the steps. Raises JumpdeckError; nothing is left running then."""
        await self._offer_to_end_orphans()
        async with self._show("Azure's facts of the cluster"):
            facts = await preflight(self._azure, self._cluster.arc)
        if (refused := self._refused()) is not None:
            return Opened(await self._by_az(refused), facts)
        async with self._show("credential of the relay"):
            offer = await self._relay()
        try:
            async with self._show("Arc proxy program"):
                found = await self._program()
            return Opened(await self._native(found, facts, offer), facts, offer.relay)
        except JumpdeckError as error:
            if not self._az_may(error):
                raise
            return Opened(await self._by_az(error), facts)

    def _az_may(self, error: JumpdeckError) -> bool:
        """Whether az need not fail by this too. A program that somebody has named is not replaced by another."""
        if isinstance(error, PopUnable):
            return error.az_may  # a sign-in may say only when it is asked that its keys are not for us (az's own)
        return error.code in _BY_AZ and self._profile.arc_proxy is None

    # -- the native way ------------------------------------------------------------------------------------------------

    def _refused(self) -> PopUnable | None:
        """Why this sign-in gets no identity for the program, known beforehand. A service account needs none."""
        about = getattr(self._azure.identity, "about", None)
        if self._cluster.auth == "token" or about is None:
            return None
        refused = refusal(about.kind, about.label)
        if refused is not None and not refused.az_may:
            raise refused
        return refused

    async def _relay(self) -> RelayCredential:
        return await list_user_credential(
            self._azure, self._cluster.arc, auth=self._cluster.auth, correlation_id=self._correlation
        )

    async def _program(self) -> Program:
        found = await asyncio.to_thread(program.find_program, self._profile.arc_proxy)
        if found is not None:
            return found
        proxy = choose_proxy(urlsplit(REGISTRY).hostname or "", proxy_of(self._profile))
        fetched = await fetch_agreed(
            self._asker, proxy=proxy, ca_file=self._azure.endpoints.ca_file, shown=self._show(steps.DOWNLOAD)
        )
        if fetched is None:
            raise await asyncio.to_thread(program.no_program, self._profile.name)
        return fetched

    async def _native(self, found: Program, facts: ArcFacts, offer: RelayCredential) -> NativeTunnel:
        source = await self._source(facts)
        config = await self._config(facts)
        ca_file = self._azure.endpoints.ca_file
        env = child_environment(proxy=proxy_of(self._profile), ca_file=ca_file)
        for last in (False, True):
            tunnel = await self._start(found, config, env, source)
            try:
                if source.identity is not None:
                    async with self._show("identity"):
                        await tunnel.identify()
                else:
                    await tunnel.identify()
                async with self._show("register"):
                    await tunnel.register(offer)
                tunnel.keep()
                return tunnel
            except BaseException as error:
                await tunnel.aclose()
                if last or not isinstance(error, KeyExpired):
                    raise
        raise AssertionError("the second try returns or raises")

    async def _start(
        self, found: Program, config: dict[str, object], env: dict[str, str], source: Source
    ) -> NativeTunnel:
        async with self._show("local proxy"):
            process = await ArcProcess.start(found, config, env, label=self._profile.name)
        label = f"arcProxy {clean(found.version)}".strip()
        ignored = _IGNORED if environment_proxy(HOST) is not None else ""
        return NativeTunnel(process, source, label, tuple(filter(None, (found.note, ignored))))

    async def _source(self, facts: ArcFacts) -> Source:
        async def identity(kid: str) -> AccessToken:
            return await pop_token(self._azure.identity, kid, facts.tenant)

        token = None if self._token is None else await self._token()
        return Source(
            self._cluster.arc, self._relay, identity if token is None else None, facts.tenant, token, self._correlation
        )

    async def _config(self, facts: ArcFacts) -> dict[str, object]:
        about = getattr(self._azure.identity, "about", None)
        identity = {"tenantID": facts.tenant}
        if self._cluster.auth != "token":
            identity["clientID"] = client_id(about) if about is not None else ""
        return {"identity": identity, **await cloud_config(self._azure)}

    # -- by az ---------------------------------------------------------------------------------------------------------

    async def _by_az(self, why: JumpdeckError) -> Tunnel:
        """The same by az, where it is there. Raises `why` with what az lacks, and what az itself fails by."""
        from app.arc.az import AzTunnel, check_az, neither

        who = of_token((await self._azure.identity.token(self._azure.endpoints.arm_scope)).value).upn
        try:
            await asyncio.to_thread(check_az, self._profile, who)
        except JumpdeckError as lack:
            raise neither(why, lack) from lack
        async with self._show(steps.BY_AZ):
            return await AzTunnel.open(
                self._profile, str(why), who=who, proxy=proxy_of(self._profile), ca_file=self._azure.endpoints.ca_file
            )

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _offer_to_end_orphans(self) -> None:
        """Programs of earlier runs that outlived it. Where nobody can be asked a command has ended them already."""
        who: object = self._asker
        if not isinstance(who, Consents):
            return
        found = await asyncio.to_thread(find_orphans)
        left = [orphan for orphan in found if orphan.folder not in _left]
        if not left:
            return
        if await who.ask_consent(orphan_question(left)):
            for error in await end_orphans(left):
                raise error
        else:
            _left.update(orphan.folder for orphan in left)


def proxy_of(profile: Profile) -> str | None:
    """The web proxy that the program goes out by: that of the way in, else the profile's; None: the environment's."""
    return next((hop.proxy for hop in profile.via if isinstance(hop, ProxyHop)), profile.proxy)
