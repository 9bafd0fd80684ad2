"""Whose program is at the other end of a loopback connection, and whose program listens on a loopback port (S-15).

Linux: the row of the peer's own socket in `/proc/net/tcp` and `tcp6` (proc(5)) names its user. Windows: the row in
`GetExtendedTcpTable` names the process, whose token names its user. macOS and the BSDs tell an ordinary program of its
own sockets only: there nobody is turned away, the verdict says so, and what stands between another user and the cluster
is that a listener carries bytes and never a credential.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path

from app.records import Record
from app.text import clean

Address = tuple[str, int]
"""An IPv4 address and a port."""

LOOKS = 4
"""How often the table is read for one peer: it is no snapshot, a row may be missed while others come and go."""
LOOK_AGAIN = 0.004
"""Seconds between two looks; a peer that stays waits 12 ms at most."""

_TRY_LIMIT = 1.0
"""Seconds of a connection to this computer; it is refused at once."""
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTEN = "0A"
"""TCP_LISTEN of the kernel's net/tcp_states.h, as /proc/net/tcp writes it."""
_WINDOWS_ROW = struct.Struct("<I4s2s2x4s2s2xI")
"""MIB_TCPROW_OWNER_PID: state, local address and port, remote address and port (network order), process id."""


class Verdict(Enum):
    """What is known of a peer."""

    OURS = "ours"
    FOREIGN = "foreign"
    """Another user's, also root's."""
    GONE = "gone"
    """No row, or one without an owner: it has closed already, or cannot be found. Not served."""
    UNCHECKED = "unchecked"
    """This system does not tell."""


class PeerOwner(Record):
    """Whose connection it is; `who` is `uid 65534` or `process 312`, for the message."""

    verdict: Verdict
    who: str = ""

    @property
    def served(self) -> bool:
        """Whether it may use the listener."""
        return self.verdict in (Verdict.OURS, Verdict.UNCHECKED)


async def owner_of_peer(
    peer: Address, ours: Address, look: Callable[[Address, Address], PeerOwner] | None = None
) -> PeerOwner:
    """Who is at `peer`, connected to our socket at `ours`. The table is read in a thread."""
    found = PeerOwner(Verdict.GONE)
    for again in range(LOOKS):
        if again:
            await asyncio.sleep(LOOK_AGAIN)
        found = await asyncio.to_thread(look or look_up, peer, ours)
        if found.verdict is not Verdict.GONE:
            break
    return found


def look_up(peer: Address, ours: Address) -> PeerOwner:
    """One look, which blocks for a moment."""
    look = {"linux": _look_linux, "win32": _look_windows}.get(sys.platform)
    return look(peer, ours) if look is not None else PeerOwner(Verdict.UNCHECKED)


def owner_of_port(port: int) -> str:
    """Who listens on a port of this computer: `process 312 (k9s)`, or `uid 1001` where the process is not shown to us.

    Empty when nothing is known. Blocks: it looks through the processes.
    """
    look = {"linux": _port_linux, "win32": _port_windows}.get(sys.platform)
    with suppress(OSError):
        return look(port) if look is not None else ""
    return ""


def owner_of_listener(port: int, pids: Collection[int]) -> PeerOwner:
    """Whose program takes connections to 127.0.0.1:`port`: OURS when all that would is one of the processes `pids`.

    FOREIGN when another process listens there (`who` says which), GONE when nobody does, UNCHECKED when somebody
    listens but this system does not tell who. Blocks for a moment.
    """
    look = {"linux": _listener_linux, "win32": _listener_windows}.get(sys.platform, _listener_by_trying)
    try:
        return look(port, pids)
    except OSError:
        return _listener_by_trying(port, pids)


def _listener_by_trying(port: int, _: Collection[int]) -> PeerOwner:
    with socket.socket() as trying:
        trying.settimeout(_TRY_LIMIT)
        return PeerOwner(Verdict.GONE if trying.connect_ex(("127.0.0.1", port)) else Verdict.UNCHECKED)


# -- Linux -------------------------------------------------------------------------------------------------------------


def _look_linux(peer: Address, ours: Address) -> PeerOwner:
    for table in _TABLES:
        with suppress(OSError), open(table, encoding="ascii") as lines:  # no IPv6: no second table
            owner = uid_in_table(lines, peer, ours)
            if owner is not None:
                return PeerOwner(Verdict.OURS if owner == _my_uid() else Verdict.FOREIGN, f"uid {owner}")
    return PeerOwner(Verdict.GONE)


def _my_uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else -1


def uid_in_table(lines: Iterable[str], peer: Address, ours: Address) -> int | None:
    """The user of the socket that is bound to `peer` and connected to `ours`, from the lines of /proc/net/tcp or tcp6.

    Both ends must be equal: a row of the same port at another address is another connection. A row without inode is of
    a socket that nobody holds any more, and its uid says nothing.
    """
    wanted = {(_hex(peer, mapped), _hex(ours, mapped)) for mapped in (False, True)}
    for line in lines:
        fields = line.split(maxsplit=10)
        if len(fields) > 9 and (fields[1], fields[2]) in wanted and fields[9] != "0":
            return int(fields[7])
    return None


def _hex(address: Address, mapped: bool) -> str:
    """As the kernel prints it: words of 32 bits in this machine's byte order; `mapped` is the form ::ffff:a.b.c.d."""
    packed = socket.inet_aton(address[0])
    if mapped:
        packed = bytes(10) + b"\xff\xff" + packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"


def _listener_linux(port: int, pids: Collection[int]) -> PeerOwner:
    rows: dict[str, str] = {}
    for table in _TABLES:
        with suppress(OSError), open(table, encoding="ascii") as lines:
            rows.update(listeners_in_table(lines, port))
    if not rows:
        return PeerOwner(Verdict.GONE)
    held = {socket for pid in pids for socket in _sockets_of(Path("/proc") / str(pid))}
    others = {inode: uid for inode, uid in rows.items() if f"socket:[{inode}]" not in held}
    if not others:
        return PeerOwner(Verdict.OURS)
    if set(others.values()) == {str(_my_uid())} and any(_is_closed(pid) for pid in pids):
        return PeerOwner(Verdict.UNCHECKED)
    return PeerOwner(Verdict.FOREIGN, owner_of_port(port))


def _is_closed(pid: int) -> bool:
    """Whether nobody may look into a process that lives (PR_SET_DUMPABLE)."""
    try:
        os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def listeners_in_table(lines: Iterable[str], port: int) -> dict[str, str]:
    """Inode to uid of what takes connections to 127.0.0.1:`port`, from the lines of /proc/net/tcp or tcp6."""
    wanted = {_hex(("127.0.0.1", port), mapped) for mapped in (False, True)}
    wanted |= {_hex(("0.0.0.0", port), False), f"{'0' * 32}:{port:04X}"}  # noqa: S104 (read, not bound)
    found: dict[str, str] = {}
    for line in lines:
        fields = line.split(maxsplit=10)
        if len(fields) > 9 and fields[3] == _LISTEN and fields[1] in wanted:
            found[fields[9]] = fields[7]
    return found


def _port_linux(port: int) -> str:
    inodes: dict[str, str] = {}
    for table in _TABLES:
        with suppress(OSError), open(table, encoding="ascii") as lines:
            for line in lines:
                fields = line.split(maxsplit=10)
                if len(fields) > 9 and fields[3] == _LISTEN and fields[1].endswith(f":{port:04X}"):
                    inodes[f"socket:[{fields[9]}]"] = fields[7]
    for process in Path("/proc").iterdir() if inodes else ():
        if process.name.isdigit() and not inodes.keys().isdisjoint(_sockets_of(process)):
            name = ""
            with suppress(OSError):
                name = f" ({clean((process / 'comm').read_bytes().strip())})"
            return f"process {process.name}{name}"
    return next((f"uid {uid}" for uid in inodes.values()), "")


def _sockets_of(process: Path) -> Iterator[str]:
    """What the descriptors of a process lead to; nothing for a process that is not ours to look into."""
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                yield os.readlink(descriptor)


# -- Windows -----------------------------------------------------------------------------------------------------------


def windows_rows(table: bytes) -> Iterator[tuple[Address, Address, int]]:
    """Local end, remote end and process of each row of a MIB_TCPTABLE_OWNER_PID."""
    count = int.from_bytes(table[:4], "little")
    for index in range(count):
        at = 4 + index * _WINDOWS_ROW.size
        if at + _WINDOWS_ROW.size > len(table):
            return
        _, local, local_port, remote, remote_port, pid = _WINDOWS_ROW.unpack_from(table, at)
        yield (
            (socket.inet_ntoa(local), int.from_bytes(local_port, "big")),
            (socket.inet_ntoa(remote), int.from_bytes(remote_port, "big")),
            pid,
        )


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    def _windows_table(kind: int) -> list[tuple[Address, Address, int]]:
        """The IPv4 rows of one TCP_TABLE_CLASS: 3 listeners, 4 connections. Raises OSError."""
        get = ctypes.WinDLL("iphlpapi").GetExtendedTcpTable
        size = wintypes.DWORD(1 << 16)
        for _ in range(5):  # it grows while we ask
            buffer = ctypes.create_string_buffer(size.value)
            failed = get(buffer, ctypes.byref(size), False, int(socket.AF_INET), kind, 0)
            if not failed:
                return list(windows_rows(buffer.raw))
            if failed != 122:  # ERROR_INSUFFICIENT_BUFFER
                break
        raise ctypes.WinError(failed)

    def _port_windows(port: int) -> str:
        pid = next((pid for local, _, pid in _windows_table(3) if local[1] == port), None)
        return f"process {pid}" if pid is not None else ""

    def _listener_windows(port: int, pids: Collection[int]) -> PeerOwner:
        places = ("127.0.0.1", "0.0.0.0")  # noqa: S104 (read, not bound)
        found = {pid for local, _, pid in _windows_table(3) if local[1] == port and local[0] in places}
        if not found:
            return PeerOwner(Verdict.GONE)
        others = found.difference(pids)
        return PeerOwner(Verdict.FOREIGN, f"process {min(others)}") if others else PeerOwner(Verdict.OURS)

    def _look_windows(peer: Address, ours: Address) -> PeerOwner:
        from app.windows_acl import my_sid, process_sid

        try:
            pid = next((pid for local, remote, pid in _windows_table(4) if (local, remote) == (peer, ours)), None)
        except OSError:
            return PeerOwner(Verdict.GONE)
        if not pid:
            return PeerOwner(Verdict.GONE)
        try:
            sid = process_sid(pid)
        except OSError:  # what we may not ask is not ours
            return PeerOwner(Verdict.FOREIGN, f"process {pid}")
        return PeerOwner(Verdict.OURS if sid == my_sid() else Verdict.FOREIGN, f"process {pid}")

else:

    def _port_windows(port: int) -> str:
        raise NotImplementedError(port)

    def _listener_windows(port: int, pids: Collection[int]) -> PeerOwner:
        raise NotImplementedError(port, pids)

    def _look_windows(peer: Address, ours: Address) -> PeerOwner:
        raise NotImplementedError(peer, ours)
