"""Whether the key that an SSH server shows is the one that it should have (S-01 to S-04).

The verdict on a key is OpenSSH's on the same files (hostfile.c and sshconnect.c of 9.2), but for one case in which it
is stricter: a key that a line revokes for the host without its port is revoked for every port.
"""

from __future__ import annotations

import base64
import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from app import audit
from app.asking import HostKeyQuestion
from app.errors import Recovery, RouteError
from app.records import Record, replace
from app.routes import known_hosts
from app.routes.host_key_file import HostKeyFile
from app.routes.known_hosts import KnownKey, Lookup, Marker
from app.text import clean

if TYPE_CHECKING:
    import asyncssh

FILE_NAME = "known_hosts"
"""Our own file, in the state folder."""

_KEY_TYPES = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Key types in OpenSSH's order and the algorithms that they sign with; not SHA-1 (`ssh-rsa`), which OpenSSH dropped."""
_KEY_FILES = {"ssh-rsa": "rsa", "ssh-ed25519": "ed25519"}


class Verdict(Enum):
    """Four events that are never mixed up."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


class Server(Record):
    """The SSH server of a hop for which trust is decided."""

    profile: str
    host: str
    """As the profile names it, without user and port."""
    port: int
    address: str = ""
    """Where the connection goes, for people."""
    alias: str = ""
    """The name under which trust is kept, when not the host's (`HostKeyAlias`): S-04."""
    policy: str = "ask"
    """strict, ask or pinned."""
    pin: str | None = None
    """`host-key` of the hop."""
    vm: str | None = None
    """ARM id, for the command that reads the key out of the VM."""

    @property
    def name(self) -> str:
        """The name that known_hosts files have for it; an alias takes no port, as in OpenSSH."""
        return self.alias or known_hosts.host_name(self.host, self.port)

    @property
    def plain_name(self) -> str | None:
        """The name that is looked up when nothing stands under `name`: the host without its port."""
        return None if self.alias or self.port == 22 else self.host.lower()


class Finding(Record):
    """What was found about one shown key."""

    verdict: Verdict
    server: Server
    key_type: str
    """`ED25519`, `RSA 3072`."""
    fingerprint: str
    line: str
    """The key as `type base64`, for the known_hosts file."""
    known: tuple[KnownKey, ...] = ()
    """CHANGED: the keys that it should have been one of; REVOKED: the lines that revoke it; KNOWN: the line."""
    notes: tuple[str, ...] = ()
    authority: bool = False
    """The key is the one of the authority that signed the server's certificate, not the server's."""
    hashed: bool = False
    """The person's files hide names, so ours does."""

    @property
    def pinned(self) -> bool:
        """Whether the profile itself names the only key that may be shown."""
        return self.server.pin is not None or self.server.policy == "pinned"

    def question(self) -> HostKeyQuestion:
        """For an unknown key."""
        server = self.server
        return HostKeyQuestion(
            clean(server.profile), clean(server.host), _address(server), self.key_type, self.fingerprint,
            clean(server.alias), self._notes(),
        )  # fmt: skip

    def error(self) -> HostKeyError:
        """What to tell when it is not trusted. Only for verdicts other than KNOWN."""
        if self.verdict is Verdict.REVOKED:
            return self._revoked()
        if self.pinned:
            return self._pinned()
        return self._changed() if self.verdict is Verdict.CHANGED else self._unknown()

    def _notes(self) -> tuple[str, ...]:
        read = f"The key as the VM has it: {_vm_command(self)}" if self.server.vm else ""
        return (*self.notes, read) if read else self.notes

    def _unknown(self) -> HostKeyError:
        trust = f"jumpdeck trust {clean(self.server.profile)}"
        detail = f"{_place(self.server)} shows the {self.key_type} key {self.fingerprint}"
        return HostKeyError(
            self,
            f"The SSH server {clean(self.server.host)} is not known", "; ".join([detail, *self._notes()]),
            f"Compare the fingerprint, then: {trust} (without a terminal: {trust} --fingerprint {self.fingerprint})",
            code="JD-SSH-HOST-KEY-UNKNOWN", recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip

    def _changed(self) -> HostKeyError:
        server = self.server
        known = "; ".join(f"known is the {key.kind} key {key.fingerprint} ({key.where})" for key in self.known)
        verify = f"in the VM: {_vm_command(self)}" if server.vm else "with whoever runs the server"
        return HostKeyError(
            self,
            f"The SSH server {clean(server.host)} shows another key than the known one",
            "; ".join([f"{_place(server)} shows the {self.key_type} key {self.fingerprint}", known, *self.notes]),
            f"Somebody may be in between. Verify the new key {verify}; "
            f"when it is right: jumpdeck trust {clean(server.profile)} --replace",
            code="JD-SSH-HOST-KEY-CHANGED", recovery=Recovery.NEEDS_PERSON,
        )  # fmt: skip

    def _revoked(self) -> HostKeyError:
        whose = "the authority of its certificate" if self.authority else "the key"
        where = ", ".join(dict.fromkeys(key.where for key in self.known))  # `*` stands for host and host:port
        return HostKeyError(
            self,
            f"The SSH server {clean(self.server.host)} shows a revoked key",
            f"{_place(self.server)}: {whose} {self.fingerprint} ({self.key_type}) is revoked in {where}",
            "Do not connect; the key may be stolen. The server needs a new key, from whoever runs it.",
            code="JD-SSH-HOST-KEY-REVOKED",
        )  # fmt: skip

    def _pinned(self) -> HostKeyError:
        server = self.server
        stated = server.pin or "none (the hop has no host-key)"
        return HostKeyError(
            self,
            f"The SSH server {clean(server.host)} does not show the key that the profile names",
            f"{_place(server)} shows the {self.key_type} key {self.fingerprint}; the profile names {clean(stated)}",
            "Verify the key with whoever runs the server; when it is right, correct host-key in the profile.",
            code="JD-SSH-HOST-KEY-PINNED",
        )  # fmt: skip


class HostKeyError(RouteError):
    """A server whose key is not trusted; `finding` says why (exit 5, layer host-key)."""

    layer = "host-key"

    def __init__(
        self, finding: Finding, title: str, detail: str, hint: str, *, code: str,
        recovery: Recovery = Recovery.PERMANENT,
    ) -> None:  # fmt: skip
        super().__init__(title, detail, hint, code=code, recovery=recovery)
        self.finding = finding


class HostKeyCheck:
    """All that is known of one server, read before the connection is made.

    A hop connects with `known_hosts=([], [], check.revoked())`, `server_host_key_algs=check.algorithms`, and with the
    alias, if there is one, as `host_key_alias`; its SSHClient answers from `judge` and `judge_authority` and keeps the
    finding. When asyncssh raises HostKeyNotVerifiable, `after_refusal` says whether to connect once more.
    """

    def __init__(
        self, server: Server, found: Lookup, *, certificates: bool = True, certificate_revoked: bool = False
    ) -> None:
        self.server = server
        self._found = found
        self._certificate_revoked = certificate_revoked
        pinned = server.pin is not None or server.policy == "pinned"
        # the server's certificate tells its signer, which may be trusted or, just as well, revoked
        signed = any(key.marker is not Marker.HOST for key in self._all())
        self._certificates = certificates and signed and not pinned
        self.algorithms: tuple[str, ...] | None = self._ordered()
        """Host-key algorithms in the order to offer: of known keys first; certificates when lines speak of authorities
        or revoked keys. Give them to asyncssh as `server_host_key_algs`."""

    def revoked(self) -> list[asyncssh.SSHKey]:
        """The third list of asyncssh's `known_hosts`, `([], [], check.revoked())`.

        It matters for certificates only: asyncssh asks about their authority and never shows us the key inside.
        """
        import asyncssh

        keys = []
        authorities = {key.blob for key in self._all() if key.marker is Marker.AUTHORITY}  # judge_authority says so
        for key in self._all() if self._certificates else ():
            if key.marker is Marker.REVOKED and key.blob not in authorities:
                try:
                    text = f"{key.key_type} {base64.b64encode(key.blob).decode()}"
                    keys.append(asyncssh.import_public_key(text))
                except (asyncssh.KeyImportError, ValueError):
                    continue  # nor can asyncssh be shown such a key
        return keys

    def after_refusal(self, finding: Finding | None) -> HostKeyCheck | None:
        """What to do when asyncssh raised HostKeyNotVerifiable, after `finding` (None: it never asked us).

        A check: connect once more with it. A certificate was no good (its authority, names or dates), and OpenSSH then
        goes on with the plain key. None: the finding stands, and there is one.
        """
        if not self._certificates or (finding is not None and finding.verdict in (Verdict.CHANGED, Verdict.REVOKED)):
            return None
        revoked = finding is None and bool(self.revoked())
        return HostKeyCheck(self.server, self._found, certificates=False, certificate_revoked=revoked)

    def judge(self, key: asyncssh.SSHKey) -> Finding:
        """The verdict on a plain key."""
        blob = key.public_data
        own = [known for known in self._found.own_name if known.marker is Marker.HOST]
        plain = [known for known in self._found.plain_name if known.marker is Marker.HOST]
        if revoking := self._revoking(blob):
            return self._finding(Verdict.REVOKED, key, revoking)
        if self._certificate_revoked:
            return self._authority_revoked(key)
        if self.server.pin is not None or self.server.policy == "pinned":
            fits = self.server.pin == known_hosts.fingerprint(blob)
            return self._finding(Verdict.KNOWN if fits else Verdict.CHANGED, key)
        if same := [known for known in own or plain if known.blob == blob]:
            return self._finding(Verdict.KNOWN, key, same)
        if own:
            return self._finding(Verdict.CHANGED, key, own)
        notes = tuple(
            f"for {clean(self.server.host)} without the port another key is known: {known.kind} {known.fingerprint} "
            f"({known.where})"
            for known in plain
        )
        return self._finding(Verdict.UNKNOWN, key, notes=notes)

    def judge_authority(self, key: asyncssh.SSHKey) -> Finding:
        """The verdict on the authority that signed a host certificate (asyncssh checks names and dates)."""
        blob = key.public_data
        if revoking := self._revoking(blob):
            return replace(self._finding(Verdict.REVOKED, key, revoking), authority=True)
        for keys in (self._found.own_name, self._found.plain_name):
            same = [known for known in keys if known.marker is Marker.AUTHORITY and known.blob == blob]
            if same and self._certificates:
                return replace(self._finding(Verdict.KNOWN, key, same), authority=True)
        return replace(self._finding(Verdict.UNKNOWN, key), authority=True)

    def _all(self) -> tuple[KnownKey, ...]:
        return self._found.own_name + self._found.plain_name

    def _revoking(self, blob: bytes) -> list[KnownKey]:
        return [known for known in self._all() if known.marker is Marker.REVOKED and known.blob == blob]

    def _authority_revoked(self, key: asyncssh.SSHKey) -> Finding:
        """asyncssh refused a certificate by our list of revoked keys, and the plain key is not on it: its signer is."""
        lines = [known for known in self._all() if known.marker is Marker.REVOKED]
        keys = dict.fromkeys((known.kind, known.fingerprint) for known in lines)
        return replace(
            self._finding(Verdict.REVOKED, key, lines), authority=True,
            key_type=", ".join(kind for kind, _ in keys), fingerprint=" or ".join(each for _, each in keys),
        )  # fmt: skip

    def _finding(
        self, verdict: Verdict, key: asyncssh.SSHKey, known: list[KnownKey] | None = None, notes: tuple[str, ...] = ()
    ) -> Finding:
        blob = key.public_data
        line = f"{key.get_algorithm()} {base64.b64encode(blob).decode()}"
        return Finding(
            verdict, self.server, known_hosts.key_kind(blob), known_hosts.fingerprint(blob), line,
            known=tuple(known or ()), notes=notes + self._found.notes, hashed=self._found.hashed,
        )  # fmt: skip

    def _ordered(self) -> tuple[str, ...]:
        """As OpenSSH's order_hostkeyalgs: types of keys known under the name first, the order otherwise kept."""
        known = {key.key_type for key in self._found.own_name if key.marker is Marker.HOST}
        types = sorted(_KEY_TYPES, key=lambda name: name not in known)
        plain = [algorithm for name in types for algorithm in _KEY_TYPES[name]]
        if not self._certificates:
            return tuple(plain)
        signed = [algorithm for algorithms in _KEY_TYPES.values() for algorithm in algorithms]
        return (*(f"{algorithm}-cert-v01@openssh.com" for algorithm in signed), *plain)


class HostKeys:
    """The known_hosts files: the person's and the system's to read, our own to write."""

    def __init__(self, own: Path | None = None, others: tuple[Path, ...] | None = None) -> None:
        self._own = own
        self.others = default_files() if others is None else others

    @property
    def own(self) -> HostKeyFile:
        """Our own file."""
        from app.folders import state_dir

        return HostKeyFile(self._own or state_dir() / FILE_NAME)

    def check_for(self, server: Server) -> HostKeyCheck:
        """Read the files. Blocks: run it off the loop. Raises ProfileError for a file that cannot be used."""
        return HostKeyCheck(server, self.look_up(server))

    def look_up(self, server: Server) -> Lookup:
        """What all files say of a server, ours first. Blocks; raises as `check_for`."""
        own = self.own
        lookups = [known_hosts.look_up(own.read(), own.path, server.name, server.plain_name)]
        notes: list[str] = []
        for path in self.others:
            data, note = known_hosts.read_file(path)
            notes += [note] if note else []
            if data:
                lookups.append(known_hosts.look_up(data, path, server.name, server.plain_name))
        return Lookup(
            tuple(key for each in lookups for key in each.own_name),
            tuple(key for each in lookups for key in each.plain_name),
            tuple([note for each in lookups for note in each.notes] + notes),
            any(each.hashed for each in lookups),
        )

    def trust(self, finding: Finding) -> None:
        """Keep an unknown key as known. Blocks. Audited. Raises the finding's own error for any other verdict.

        Another session may have asked about the same server meanwhile: what is known by now is what counts.
        """
        if finding.verdict is not Verdict.UNKNOWN or finding.authority:
            raise finding.error()
        import asyncssh

        now = self.check_for(finding.server).judge(asyncssh.import_public_key(finding.line))
        if now.verdict is Verdict.KNOWN:
            return
        if now.verdict is not Verdict.UNKNOWN:
            raise now.error()
        self.own.add(finding.server.name, finding.line, hashed=finding.hashed)
        _record("host-key.trusted", finding)

    def replace(self, finding: Finding) -> tuple[KnownKey, ...]:
        """Keep a changed key in place of ours for that server. Blocks. Audited.

        Returns the old keys that still stand: in files that are not ours, or under wildcards. Raises the finding's own
        error when it was revoked or pinned.
        """
        if finding.verdict is not Verdict.CHANGED or finding.pinned or finding.authority:
            raise finding.error()
        gone = self.own.replace(finding.server.name, finding.line, hashed=finding.hashed)
        _record("host-key.replaced", finding, was=" ".join(key.fingerprint for key in (gone or finding.known)))
        lines = {(key.path, key.line) for key in gone}
        return tuple(key for key in finding.known if (key.path, key.line) not in lines)

    def refuse(self, finding: Finding) -> None:
        """Note in the audit record that a key was shown and not trusted. Blocks."""
        _record("host-key.refused", finding, verdict=finding.verdict.value)

    def remove(self, which: str) -> list[KnownKey]:
        """Forget a host (`name`, `host` or `host:port`) or the key with this fingerprint; ours only. Audited."""
        names = _names_of(which)

        def fits(key: KnownKey) -> str | None:
            if key.fingerprint == which:
                return ""
            return next((name for name in names if _names(key, name)), None)

        gone = self.own.remove(fits)
        for key in gone:
            audit.record("host-key.removed", host=clean(key.hosts), fingerprint=key.fingerprint)
        return gone

    def entries(self) -> list[KnownKey]:
        """The lines of our own file."""
        return self.own.entries()


def default_files() -> tuple[Path, ...]:
    """The files that OpenSSH reads unless told otherwise; none of them needs to exist."""
    home = Path.home() / ".ssh"
    if sys.platform == "win32":
        system = Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "ssh"
    else:
        system = Path("/etc/ssh")
    return (
        home / "known_hosts", home / "known_hosts2", system / "ssh_known_hosts", system / "ssh_known_hosts2",
    )  # fmt: skip


def removal_command(key: KnownKey, server: Server) -> str:
    """The command that takes an old key out of a file that is not ours."""
    import shlex

    quoted = (lambda text: f'"{text}"') if sys.platform == "win32" else shlex.quote
    return f"ssh-keygen -f {quoted(clean(str(key.path)))} -R {quoted(clean(server.name))}"


def _names_of(which: str) -> tuple[str, ...]:
    host, colon, port = which.rpartition(":")
    if colon and port.isdigit() and not which.startswith("[") and ":" not in host:
        return (which, known_hosts.host_name(host, int(port)))
    return (which,)


def _names(key: KnownKey, name: str) -> bool:
    """Whether the line has this name in so many words."""
    if key.hashed:
        return known_hosts.speaks_of(key.hosts, name) or known_hosts.speaks_of(key.hosts, name.lower())
    return name.lower() in key.hosts.lower().split(",")


def _place(server: Server) -> str:
    """Where the server is, as the subject of a sentence: `through jump01` alone names nobody."""
    address = _address(server)
    if address.startswith("through "):
        return f"{clean(known_hosts.host_name(server.host, server.port))} ({address})"
    return address


def _address(server: Server) -> str:
    return clean(server.address) or clean(known_hosts.host_name(server.host, server.port))


def _vm_command(finding: Finding) -> str:
    kind = _KEY_FILES.get(finding.line.split(" ", 1)[0], "ecdsa")
    return (
        f"az vm run-command invoke --ids {clean(finding.server.vm or '')} --command-id RunShellScript "
        f'--scripts "ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub"'
    )


def _record(event: str, finding: Finding, **more: str) -> None:
    server = finding.server
    audit.record(
        event, profile=server.profile, host=known_hosts.host_name(server.host, server.port), address=server.address,
        name=server.name, key=finding.key_type, fingerprint=finding.fingerprint, policy=server.policy, **more,
    )  # fmt: skip
