"""A Windows job that ends its processes when the last handle to it is closed: with us, however we end.

Job objects: JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE of winnt.h. Children of the process are in the job too.
"""

from __future__ import annotations

import contextlib
import sys

_KILL_ON_JOB_CLOSE = 0x2000
_EXTENDED_LIMITS = 9  # JobObjectExtendedLimitInformation
_SET_QUOTA_TERMINATE = 0x100 | 0x1

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _Basic(ctypes.Structure):
        """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

        _fields_ = (
            ("process_time", wintypes.LARGE_INTEGER), ("job_time", wintypes.LARGE_INTEGER), ("flags", wintypes.DWORD),
            ("minimum_set", ctypes.c_size_t), ("maximum_set", ctypes.c_size_t), ("processes", wintypes.DWORD),
            ("affinity", ctypes.c_size_t), ("priority", wintypes.DWORD), ("scheduling", wintypes.DWORD),
        )  # fmt: skip

    class _Extended(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION; the counters of IO_COUNTERS are not looked at."""

        _fields_ = (
            ("basic", _Basic), ("counters", ctypes.c_ulonglong * 6), ("process_memory", ctypes.c_size_t),
            ("job_memory", ctypes.c_size_t), ("peak_process", ctypes.c_size_t), ("peak_job", ctypes.c_size_t),
        )  # fmt: skip

    class Job:
        """A job with one process in it. Raises OSError."""

        def __init__(self, pid: int) -> None:
            kernel = ctypes.WinDLL("kernel32", use_last_error=True)
            kernel.CreateJobObjectW.restype = kernel.OpenProcess.restype = wintypes.HANDLE
            kernel.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
            kernel.SetInformationJobObject.argtypes = [wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD]
            kernel.AssignProcessToJobObject.argtypes = [wintypes.HANDLE, wintypes.HANDLE]
            kernel.CloseHandle.argtypes = [wintypes.HANDLE]
            self._kernel = kernel
            self._handle = kernel.CreateJobObjectW(None, None)
            if not self._handle:
                raise ctypes.WinError(ctypes.get_last_error())
            try:
                limits = _Extended()
                limits.basic.flags = _KILL_ON_JOB_CLOSE
                self._must(kernel.SetInformationJobObject(
                    self._handle, _EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
                ))  # fmt: skip
                process = self._must(kernel.OpenProcess(_SET_QUOTA_TERMINATE, False, pid))
                try:
                    self._must(kernel.AssignProcessToJobObject(self._handle, process))
                finally:
                    kernel.CloseHandle(process)
            except BaseException:
                self.close()
                raise

        @staticmethod
        def _must(result: int) -> int:
            if not result:
                raise ctypes.WinError(ctypes.get_last_error())
            return result

        def close(self) -> None:
            """Let go, which ends what is left in the job."""
            if self._handle:
                self._kernel.CloseHandle(self._handle)
                self._handle = 0

else:

    class Job:
        """Only Windows has it."""

        def __init__(self, pid: int) -> None:
            raise NotImplementedError(pid)

        def close(self) -> None:
            """Only Windows has it."""


def job_of(pid: int) -> Job | None:
    """A job with this process in it; None where there are none, or the one that we are in forbids others inside."""
    if sys.platform == "win32":
        with contextlib.suppress(OSError):
            return Job(pid)
    return None
