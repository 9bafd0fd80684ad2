"""Processes of this computer, told apart for good: a number is given again, a number and a start time are not.

Linux: proc(5). Windows: the creation time and image of an open process, which pins its number. macOS: libproc.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from app.records import Record

MARK = "JUMPDECK_RUN"
"""The variable whose value names the run that a process belongs to; its children inherit it."""
_LOOK_AGAIN = 0.05
"""Seconds between two looks at a process whose end the system does not tell."""
_ENVIRON_LIMIT = 1 << 20
"""Bytes of an environment that are looked through."""


class Known(Record):
    """One process, for good."""

    pid: int
    started: str
    """When, in the system's own unit, with the boot where the system counts from it. Only compared."""


def known(pid: int) -> Known | None:
    """The process that has this number now; None when there is none, or the system does not show it."""
    try:
        started = _started(pid)
    except (OSError, ValueError, IndexError):
        return None
    return Known(pid, started) if started else None


def lives(process: Known) -> bool:
    """Whether this very process still runs. A zombie has ended."""
    return known(process.pid) == process


def may_live(process: Known) -> bool:
    """The same, and yes too when the system does not let us look."""
    try:
        return _started(process.pid) == process.started
    except PermissionError:
        return True
    except (OSError, ValueError, IndexError):
        return False


def end(process: Known, *, ask: bool) -> bool:
    """Signal this very process and its group: SIGTERM when `ask`, else SIGKILL. Never another one. Blocks briefly.

    Whether it was there. On Windows there is no asking: it is ended.
    """
    if sys.platform == "win32":
        return _end_windows(process)
    number = signal.SIGTERM if ask else signal.SIGKILL
    with _pinned(process.pid) as pin:
        if not lives(process):
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, number)
            elif pin is not None and sys.platform == "linux":
                signal.pidfd_send_signal(pin, number)
            else:
                os.kill(process.pid, number)
    return True


def wait_gone(process: Known, limit: float) -> bool:
    """Wait until this very process has ended, at most `limit` seconds; whether it has. Blocks."""
    until = time.monotonic() + limit
    with _pinned(process.pid) as pin:
        while lives(process):
            left = until - time.monotonic()
            if left <= 0:
                return False
            if pin is None:
                time.sleep(min(left, _LOOK_AGAIN))
                continue
            import select

            select.select([pin], [], [], left)  # readable when it has ended (pidfd_open(2))
    return True


@contextlib.contextmanager
def _pinned(pid: int) -> Iterator[int | None]:
    """A descriptor that stands for the process of this number, whatever becomes of the number; None without one."""
    pin: int | None = None
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            pin = os.pidfd_open(pid)
    try:
        yield pin
    finally:
        if pin is not None:
            os.close(pin)


def place() -> str:
    """Which processes are meant by numbers written here: the computer, and on Linux its process namespace.

    A state folder may be shared by computers and by containers.
    """
    import platform

    space = ""
    with contextlib.suppress(OSError, AttributeError):
        space = os.readlink("/proc/self/ns/pid")
    return f"{platform.node()} {space}".rstrip()


def marked() -> dict[str, list[Known]]:
    """Processes of this user that carry `MARK`, by its value. Only Linux shows them; empty elsewhere. Blocks."""
    found: dict[str, list[Known]] = {}
    if sys.platform != "linux":
        return found
    mine, want = os.getuid(), f"{MARK}=".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            if folder.stat().st_uid != mine:
                continue
            process = known(int(folder.name))
            with open(folder / "environ", "rb") as file:
                environ = file.read(_ENVIRON_LIMIT).split(b"\0")
            value = next((entry[len(want) :] for entry in environ if entry.startswith(want)), None)
            if value is not None and process is not None:
                found.setdefault(value.decode("utf-8", "replace"), []).append(process)
    return found


def image_of(pid: int) -> str:
    """The file that a process runs, as the system names it (a script's interpreter); empty when it is not shown."""
    with contextlib.suppress(OSError, ValueError):
        return _image(pid)
    return ""


def program_name(pid: int) -> str:
    """What a process calls itself, at most 15 bytes (proc(5), comm); a script's is the script's name. Linux only."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    return ""


def session_of(pid: int) -> int | None:
    """The session that a process belongs to, by its leader's number; None when it is not shown. Linux only."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_stat(pid)[3])
    return None


def group_of(pid: int) -> tuple[int, ...]:
    """`pid` and the processes of its group (Linux); only `pid` elsewhere. Blocks."""
    found = {pid}
    if sys.platform == "linux":
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    if _stat(int(folder.name))[2] == str(pid):
                        found.add(int(folder.name))
    return tuple(found)


# -- Linux -------------------------------------------------------------------------------------------------------------


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (the state) on."""
    text = (Path("/proc") / str(pid) / "stat").read_text("utf-8", "replace")
    return text.rpartition(")")[2].split()


def _started_linux(pid: int) -> str:
    fields = _stat(pid)
    if fields[0] in "ZX":
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot} {fields[19]}"


# -- Windows and macOS -------------------------------------------------------------------------------------------------

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel.OpenProcess.restype = wintypes.HANDLE
    _kernel.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
    _kernel.CloseHandle.argtypes = [wintypes.HANDLE]
    _kernel.TerminateProcess.argtypes = [wintypes.HANDLE, wintypes.UINT]
    _kernel.WaitForSingleObject.argtypes = [wintypes.HANDLE, wintypes.DWORD]
    _kernel.GetProcessTimes.argtypes = [wintypes.HANDLE, *[ctypes.POINTER(wintypes.FILETIME)] * 4]
    _kernel.QueryFullProcessImageNameW.argtypes = [
        wintypes.HANDLE, wintypes.DWORD, wintypes.LPWSTR, ctypes.POINTER(wintypes.DWORD),
    ]  # fmt: skip
    _ASK, _TERMINATE, _SYNCHRONIZE = 0x1000, 0x1, 0x0010_0000  # PROCESS_QUERY_LIMITED_INFORMATION, …
    _TIMED_OUT = 0x102  # WAIT_TIMEOUT
    _ENDED = 1
    """The exit code of what we end."""

    @contextlib.contextmanager
    def _opened(pid: int, rights: int) -> Iterator[int]:
        handle = _kernel.OpenProcess(rights, False, pid)
        if not handle:
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            yield handle
        finally:
            _kernel.CloseHandle(handle)

    def _created(handle: int) -> str:
        times = [wintypes.FILETIME() for _ in range(4)]
        if not _kernel.GetProcessTimes(handle, *(ctypes.byref(one) for one in times)):
            raise ctypes.WinError(ctypes.get_last_error())
        return str(times[0].dwHighDateTime << 32 | times[0].dwLowDateTime)

    def _started(pid: int) -> str:
        with _opened(pid, _ASK | _SYNCHRONIZE) as handle:
            # A process that has ended keeps its number while anybody holds it open.
            return _created(handle) if _kernel.WaitForSingleObject(handle, 0) == _TIMED_OUT else ""

    def _image(pid: int) -> str:
        with _opened(pid, _ASK) as handle:
            buffer, size = ctypes.create_unicode_buffer(32_768), wintypes.DWORD(32_768)
            if not _kernel.QueryFullProcessImageNameW(handle, 0, buffer, ctypes.byref(size)):
                raise ctypes.WinError(ctypes.get_last_error())
            return buffer.value

    def _end_windows(process: Known) -> bool:
        with contextlib.suppress(OSError), _opened(process.pid, _ASK | _TERMINATE | _SYNCHRONIZE) as handle:
            if _created(handle) == process.started:
                return bool(_kernel.TerminateProcess(handle, _ENDED))
        return False

else:

    def _end_windows(process: Known) -> bool:
        raise NotImplementedError(process)

    if sys.platform == "darwin":
        import ctypes
        import struct

        _libproc = ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)
        _BSD_INFO, _BSD_SIZE = 3, 136  # PROC_PIDTBSDINFO and the size of struct proc_bsdinfo (sys/proc_info.h)
        _STARTED = struct.Struct("=QQ")  # pbi_start_tvsec, pbi_start_tvusec: its last two fields
        _ZOMBIE = 5  # SZOMB, in pbi_status

        def _started(pid: int) -> str:
            buffer = ctypes.create_string_buffer(_BSD_SIZE)
            if _libproc.proc_pidinfo(pid, _BSD_INFO, ctypes.c_uint64(0), buffer, _BSD_SIZE) != _BSD_SIZE:
                raise OSError(ctypes.get_errno(), "proc_pidinfo")
            if int.from_bytes(buffer.raw[4:8], sys.byteorder) == _ZOMBIE:
                return ""
            seconds, micros = _STARTED.unpack(buffer.raw[-_STARTED.size :])
            return f"{seconds}.{micros:06d}"

        def _image(pid: int) -> str:
            buffer = ctypes.create_string_buffer(4096)  # PROC_PIDPATHINFO_MAXSIZE
            if _libproc.proc_pidpath(pid, buffer, 4096) <= 0:
                raise OSError(ctypes.get_errno(), "proc_pidpath")
            return os.fsdecode(buffer.value)

    else:
        _started = _started_linux

        def _image(pid: int) -> str:
            return os.readlink(f"/proc/{pid}/exe")
