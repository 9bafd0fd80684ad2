"""Who owns a file on Windows and who may write to it: read from its security descriptor; who runs a process.

Windows has no mode bits that mean anything here. The descriptor is fetched as text (SDDL, [MS-DTYP] 2.5.1) and judged
by `complaint`, which runs anywhere. Reparse points are judged by the descriptor of what they point at.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_TRUSTED = frozenset({
    "SY", "BA", "S-1-5-18", "S-1-5-32-544",
    "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",  # TrustedInstaller
})  # fmt: skip
"""Local System and Administrators, who can do anything anyway."""
_WRITING_RIGHTS = frozenset({"GA", "GW", "FA", "FW", "SD", "WD", "WO", "DC", "LC", "DT"})
_WRITING_MASK = 0x2 | 0x4 | 0x40 | 0x1_0000 | 0x4_0000 | 0x8_0000 | 0x1000_0000 | 0x4000_0000
"""Write and append data, delete children, delete, change permissions or owner, generic all and write."""
_ACE = re.compile(r"\(([^()]*)\)")


def complaint(sddl: str, me: str) -> str | None:
    """What is wrong with a descriptor for a file that only user `me` (a SID) may change; None when nothing is."""
    trusted = _TRUSTED | {me}
    owner = re.search(r"O:([A-Z]{2}(?=[GDS]:|$)|S-[0-9-]+)", sddl)
    if owner is None or owner.group(1) not in trusted:
        return f"it belongs to {owner.group(1) if owner else 'nobody'}"
    access = re.search(r"D:([A-Z_]*)((?:\([^()]*\))*)", sddl)
    if access is None or "NO_ACCESS_CONTROL" in access.group(1):
        return "everybody may change it"
    for ace in _ACE.findall(access.group(2)):
        kind, flags, rights, *_objects, who = (*ace.split(";"), "") if ace.count(";") < 5 else ace.split(";")[:6]
        if kind not in ("A", "OA", "XA") or "IO" in re.findall("..", flags) or who in trusted | {"OW", "CO", "S-1-3-4"}:
            continue
        if _writes(rights):
            return f"{who} may change it"
    return None


def _writes(rights: str) -> bool:
    if rights[:2].lower() == "0x":
        return bool(int(rights, 16) & _WRITING_MASK)
    return bool(_WRITING_RIGHTS.intersection(re.findall("..", rights)))


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    def path_complaint(path: Path) -> str | None:
        """The same for a file or folder that exists. Raises OSError when the descriptor cannot be read."""
        return complaint(_descriptor(path), my_sid())

    def admin_complaint(path: Path) -> str | None:
        """The same for one that only the system and Administrators may change."""
        return complaint(_descriptor(path), "BA")

    def _descriptor(path: Path) -> str:
        advapi, kernel = ctypes.WinDLL("advapi32"), ctypes.WinDLL("kernel32")
        kernel.LocalFree.argtypes = [ctypes.c_void_p]
        descriptor, text = ctypes.c_void_p(), ctypes.c_wchar_p()
        wanted = 0x1 | 0x4  # OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION
        failed = advapi.GetNamedSecurityInfoW(
            ctypes.c_wchar_p(str(path)), 1, wanted, None, None, None, None, ctypes.byref(descriptor)
        )
        if failed:
            raise ctypes.WinError(failed)
        try:
            if not advapi.ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor, 1, wanted, ctypes.byref(text), None
            ):
                raise ctypes.WinError()
            found = text.value or ""
            kernel.LocalFree(ctypes.cast(text, ctypes.c_void_p))
            return found
        finally:
            kernel.LocalFree(descriptor)

    def my_sid() -> str:
        """The user of this process, as a SID in text. Raises OSError."""
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        return _sid_of(kernel.GetCurrentProcess())

    def process_sid(pid: int) -> str:
        """The user of a process. Raises OSError when it has ended or may not be asked."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.restype = wintypes.HANDLE
        kernel.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
        kernel.CloseHandle.argtypes = [wintypes.HANDLE]
        process = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if not process:
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            return _sid_of(process)
        finally:
            kernel.CloseHandle(process)

    def _sid_of(process: int) -> str:
        advapi, kernel = ctypes.WinDLL("advapi32"), ctypes.WinDLL("kernel32")
        kernel.CloseHandle.argtypes = [wintypes.HANDLE]
        kernel.LocalFree.argtypes = [ctypes.c_void_p]
        advapi.OpenProcessToken.argtypes = [wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p]
        advapi.GetTokenInformation.argtypes = [
            wintypes.HANDLE, ctypes.c_int, ctypes.c_void_p, wintypes.DWORD, ctypes.c_void_p,
        ]  # fmt: skip
        token = wintypes.HANDLE()
        if not advapi.OpenProcessToken(process, 0x8, ctypes.byref(token)):  # TOKEN_QUERY
            raise ctypes.WinError()
        try:
            buffer = ctypes.create_string_buffer(256)  # TOKEN_USER: one pointer, flags and a SID of at most 68 bytes
            size = wintypes.DWORD()
            if not advapi.GetTokenInformation(token, 1, buffer, len(buffer), ctypes.byref(size)):
                raise ctypes.WinError()
            text = ctypes.c_wchar_p()
            sid = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_void_p))[0]
            if not advapi.ConvertSidToStringSidW(ctypes.c_void_p(sid), ctypes.byref(text)):
                raise ctypes.WinError()
            found = text.value or ""
            kernel.LocalFree(ctypes.cast(text, ctypes.c_void_p))
            return found
        finally:
            kernel.CloseHandle(token)

else:

    def path_complaint(path: Path) -> str | None:
        """Only Windows asks."""
        raise NotImplementedError(path)

    admin_complaint = path_complaint
