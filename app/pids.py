"""Whether a process id is taken: one answer for all that carries the id of the process that made it."""

from __future__ import annotations

import os
import sys

_NOBODY = 87
"""ERROR_INVALID_PARAMETER: what OpenProcess says of an id that no process has."""


def is_taken(pid: int) -> bool:
    """Whether a process has this id. Yes too where the system does not say, and of one that nobody has waited for."""
    return _is_taken(pid)


def refused_means_taken(error: int) -> bool:
    """Windows: whether a process that could not be opened is there, by the error (5 is another user's)."""
    return error != _NOBODY


if sys.platform == "win32":

    def _is_taken(pid: int) -> bool:
        # Not os.kill: there it would end the process.
        import ctypes
        from ctypes import wintypes

        if not 0 <= pid < 1 << 32:
            return False
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.restype = wintypes.HANDLE
        kernel.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
        kernel.WaitForSingleObject.argtypes = [wintypes.HANDLE, wintypes.DWORD]
        kernel.CloseHandle.argtypes = [wintypes.HANDLE]
        process = kernel.OpenProcess(0x0010_0000, False, pid)  # SYNCHRONIZE
        if not process:
            return refused_means_taken(ctypes.get_last_error())
        try:
            return bool(kernel.WaitForSingleObject(process, 0) != 0)  # WAIT_OBJECT_0: ended, and held open by somebody
        finally:
            kernel.CloseHandle(process)

else:

    def _is_taken(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:
            return True
        return True
