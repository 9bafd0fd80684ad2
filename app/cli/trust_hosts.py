"""The SSH servers of `jumpdeck trust`: looked at one after the other, each through those before it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from app.cli.frame import asker_for, controlling_terminal, run_async, say, say_error
from app.errors import ExitCode, JumpdeckError, RouteError

if TYPE_CHECKING:
    import argparse

    from app.asking import Asker
    from app.dialer import Dialer
    from app.profiles.model import Profile, SshHop
    from app.routes.context import RouteContext
    from app.routes.host_keys import Finding, HostKeys
    from app.routes.known_hosts import KnownKey


def trust_hosts(profile: Profile, args: argparse.Namespace) -> int:
    """Look at every SSH server of the profile and settle whether it is trusted: 0, or 5. Raises JumpdeckError."""
    return run_async(_Settling(profile, args).run())


def host_lines() -> list[str]:
    """The servers of our own file, a line each; harmless text."""
    from app.routes.host_keys import HostKeys
    from app.text import clean

    return [
        f"{key.fingerprint}  {_kind(key)}  {clean(key.hosts)}  {key.where}" for key in HostKeys().entries()
    ]  # fmt: skip


def remove_host(which: str) -> bool:
    """Forget a server, or the key with this fingerprint; says what went. False when our file has no such line."""
    from app.routes.host_keys import HostKeys
    from app.text import clean

    gone = HostKeys().remove(which)
    for key in gone:
        print(f"Forgotten: {clean(key.hosts)} {_kind(key)} {key.fingerprint}")  # noqa: T201
    return bool(gone)


def other_ports(host: str) -> list[str]:
    """Servers of our file with this very host at a port that was not named; harmless text."""
    from app.routes.host_keys import HostKeys
    from app.text import clean

    names = {name for key in HostKeys().entries() for name in key.hosts.split(",")}
    return sorted(clean(name) for name in names if name.startswith(f"[{host}]:"))


class _Settling:
    """One run of the command over the hops of one profile."""

    def __init__(self, profile: Profile, args: argparse.Namespace) -> None:
        from app.routes.host_keys import HostKeys

        self.profile = profile
        self.replace: bool = args.replace
        self.wanted: set[str] = set(args.host_fingerprints)
        self.shown: set[str] = set()
        self.keys: HostKeys = HostKeys()
        self.asker: Asker | None = asker_for(args)
        self.code = int(ExitCode.DONE)

    async def run(self) -> int:
        from app.profiles.model import SshHop
        from app.routes.build import build_hops
        from app.routes.direct import DirectDialer

        hops = build_hops(self.profile, context=self._context())
        last = max(at for at, spec in enumerate(self.profile.via) if isinstance(spec, SshHop))
        async with AsyncExitStack() as stack:
            through: Dialer = DirectDialer()
            for at, (spec, hop) in enumerate(zip(self.profile.via, hops, strict=True)):
                if isinstance(spec, SshHop):
                    await self._settle_hop(spec, through)
                if at == last or self.code:
                    break
                through = await stack.enter_async_context(hop.open(through))
        if not self.code and self.wanted - self.shown:
            raise _mismatch(
                self.profile, "no server of the profile shows " + ", ".join(sorted(self.wanted - self.shown))
            )
        return self.code

    def _context(self) -> RouteContext:
        from app.routes.context import RouteContext
        from app.secrets.secret import SecretSource

        return RouteContext(asker=self.asker, secrets=SecretSource(self.asker), host_keys=self.keys)

    async def _settle_hop(self, spec: SshHop, through: Dialer) -> None:
        """Every server of the hop; one that does not answer keeps the others from nothing."""
        from app.routes.host_key_probe import look_at

        policy = self.profile.host_keys or ("strict" if self.profile.production else "ask")
        for server in spec.ssh:
            try:
                finding = await look_at(
                    spec, server, through, self.keys, profile=self.profile.name, policy=policy
                )  # fmt: skip
            except JumpdeckError as error:
                if len(spec.ssh) == 1 or not error.transient:
                    raise
                say_error(error)
                self.code = int(error.exit_code)
                continue
            await self._settle(finding)

    async def _settle(self, finding: Finding) -> None:
        import asyncio

        from app.routes.host_keys import Verdict, removal_command

        self.shown.add(finding.fingerprint)
        host = _host(finding)
        if finding.verdict is Verdict.KNOWN:
            print(f"{host} is known: {_key(finding)}")  # noqa: T201
            return
        can_replace = finding.verdict is Verdict.CHANGED and self.replace and not finding.pinned
        if finding.verdict is not Verdict.UNKNOWN and not can_replace:
            await asyncio.to_thread(self.keys.refuse, finding)
            raise finding.error()
        try:
            agreed = await self._agreed(finding)
        except RouteError:
            await asyncio.to_thread(self.keys.refuse, finding)
            raise
        if not agreed:
            await asyncio.to_thread(self.keys.refuse, finding)
            say(f"jumpdeck: {host} is not trusted; nothing has changed.")
            self.code = int(ExitCode.ROUTE)
            return
        if finding.verdict is Verdict.UNKNOWN:
            await asyncio.to_thread(self.keys.trust, finding)
            print(f"{host} is trusted now: {_key(finding)}")  # noqa: T201
            return
        left = await asyncio.to_thread(self.keys.replace, finding)
        print(f"{host} is trusted now with another key: {_key(finding)}")  # noqa: T201
        for key in left:
            say(f"jumpdeck: the old key still stands in {key.where}; remove it: {removal_command(key, finding.server)}")

    async def _agreed(self, finding: Finding) -> bool:
        """By --fingerprint, or by the person. Raises RouteError when it is another key, or nobody can be asked."""
        from app.routes.host_keys import Verdict

        if self.wanted:
            if finding.fingerprint in self.wanted:
                return True
            raise _mismatch(self.profile, f"{_host(finding)} shows {_key(finding)}")
        if self.asker is None or controlling_terminal() is None:
            error = finding.error()
            if finding.verdict is Verdict.CHANGED:
                error.hint += f" --fingerprint {finding.fingerprint}"
            raise error
        if finding.verdict is Verdict.UNKNOWN:
            return await self.asker.ask_host_key(finding.question())
        return await _ask_replacement(finding)


async def _ask_replacement(finding: Finding) -> bool:
    """Show the old keys and the new one; the new one's last four characters, or `trust`, say yes."""
    import asyncio

    from app.cli.prompts import ask_line

    question = finding.question()
    lines = [
        f"{question.host} ({question.address}) shows another key than the known one.",
        *(f"  known  {key.kind} {key.fingerprint}  {key.where}" for key in finding.known),
        f"  shown  {finding.key_type} {finding.fingerprint}",
        *(f"  {note}" for note in question.notes),
        "Somebody may be in between. If the server was made anew, verify the shown key on another way,",
        f"then type its last four characters ({question.proof}) or `trust`: ",
    ]
    try:
        typed = await asyncio.to_thread(ask_line, "\n".join(lines))
    except OSError:
        return False
    return typed in (question.proof, "trust")


def _mismatch(profile: Profile, why: str) -> RouteError:
    return RouteError(
        "Another key than the one that was named", why,
        f"Nothing was stored for it. Compare the fingerprint: jumpdeck trust {profile.name}",
        code="JD-SSH-HOST-KEY-MISMATCH", layer="host-key",
    )  # fmt: skip


def _host(finding: Finding) -> str:
    from app.routes.known_hosts import host_name
    from app.text import clean

    return clean(host_name(finding.server.host, finding.server.port))


def _key(finding: Finding) -> str:
    where = f" ({finding.known[0].where})" if finding.known and finding.verdict.value == "known" else ""
    return f"{finding.key_type} {finding.fingerprint}{where}"


def _kind(key: KnownKey) -> str:
    return f"{key.marker.value} {key.kind}".strip()
