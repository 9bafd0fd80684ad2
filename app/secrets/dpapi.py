"""Secrets too long for the Windows store, in files that only this Windows user can decrypt (DPAPI).

CryptProtectData without CRYPTPROTECT_LOCAL_MACHINE binds the data to the user; the secret's name goes in as entropy, so
that one file cannot stand in for another. The files lie in `secrets/` of the state folder.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from app.errors import ProfileError
from app.files import private_dir, read_private, write_private

MAX_FILE_BYTES = 256 * 1024
Protect = Callable[[bytes, bytes], bytes]
"""(data, entropy) to the protected or clear data. Raises OSError."""


class DpapiFiles:
    """One file for each secret. Blocks."""

    def __init__(
        self, folder: Path | None = None, protect: Protect | None = None, unprotect: Protect | None = None
    ) -> None:
        self._folder = folder
        self._protect, self._unprotect = protect or protect_data, unprotect or unprotect_data

    def _file(self, name: str) -> Path:
        from app.folders import state_dir

        folder = self._folder or state_dir() / "secrets"
        return folder / f"{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:32]}.dpapi"

    def get(self, name: str) -> str | None:
        """The secret, or None. Raises OSError when Windows does not decrypt it (another user or machine)."""
        try:
            data = read_private(self._file(name), limit=MAX_FILE_BYTES, what="protected secret")
        except ProfileError as error:
            if error.code == "JD-PROFILE-MISSING":
                return None
            raise
        return self._unprotect(data, name.encode()).decode()

    def set(self, name: str, value: str) -> None:
        """Keep it. Raises OSError or ProfileError."""
        path = self._file(name)
        data = self._protect(value.encode(), name.encode())
        private_dir(path.parent)
        write_private(path, data)

    def remove(self, name: str) -> None:
        """Remove it; one that is not there is no error."""
        self._file(name).unlink(missing_ok=True)


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _Blob(ctypes.Structure):
        """DATA_BLOB of wincrypt.h."""

        _fields_ = (("size", wintypes.DWORD), ("data", ctypes.POINTER(ctypes.c_char)))

    _UI_FORBIDDEN = 0x1  # CRYPTPROTECT_UI_FORBIDDEN

    def _blob(data: bytes) -> _Blob:
        buffer = ctypes.create_string_buffer(data, len(data))  # the cast keeps it alive
        return _Blob(len(data), ctypes.cast(buffer, ctypes.POINTER(ctypes.c_char)))

    def _call(function: str, data: bytes, entropy: bytes) -> bytes:
        crypt = ctypes.WinDLL("crypt32", use_last_error=True)
        kernel = ctypes.WinDLL("kernel32")
        kernel.LocalFree.argtypes = [ctypes.c_void_p]
        given, salt, result = _blob(data), _blob(entropy), _Blob()
        done = getattr(crypt, function)(
            ctypes.byref(given), None, ctypes.byref(salt), None, None, _UI_FORBIDDEN, ctypes.byref(result)
        )
        if not done:
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            return ctypes.string_at(result.data, result.size)
        finally:
            ctypes.memset(result.data, 0, result.size)
            kernel.LocalFree(ctypes.cast(result.data, ctypes.c_void_p))

    def protect_data(data: bytes, entropy: bytes) -> bytes:
        """Encrypt for the current user. Raises OSError."""
        return _call("CryptProtectData", data, entropy)

    def unprotect_data(data: bytes, entropy: bytes) -> bytes:
        """Decrypt what this user encrypted on this machine. Raises OSError."""
        return _call("CryptUnprotectData", data, entropy)

else:

    def protect_data(data: bytes, entropy: bytes) -> bytes:
        """Only Windows has it."""
        raise OSError("DPAPI is part of Windows")

    def unprotect_data(data: bytes, entropy: bytes) -> bytes:
        """Only Windows has it."""
        raise OSError("DPAPI is part of Windows")
