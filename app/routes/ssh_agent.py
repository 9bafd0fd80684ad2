"""Agents that hold SSH keys: a socket (`SSH_AUTH_SOCK`), OpenSSH's pipe on Windows, or Pageant.

The protocol is draft-ietf-sshm-ssh-agent. asyncssh's own client is not used: on Windows it blocks the loop, and it
reads answers of any size. Nothing here is called while another request of the same agent runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Protocol

from app.records import Record
from app.routes.ssh_certificates import is_certificate
from app.routes.ssh_wire import WireError, WireReader, algorithm_of, fingerprint_of, kind_of, put_string
from app.text import clean

CONNECT_LIMIT = 5.0
"""Seconds to reach an agent; it is a program on this computer."""
LIST_LIMIT = 10.0
"""Seconds for the list of keys; a smart card may have to wake up."""
SIGN_LIMIT = 120.0
"""Seconds for a signature: the agent may ask the person (`ssh-add -c`), or wait for a touch of a security key."""
MAX_MESSAGE = 256 * 1024
"""Bytes of one message, as OpenSSH's AGENT_MAX_LEN."""
OPENSSH_PIPE = r"\\.\pipe\openssh-ssh-agent"
"""Where Windows' own OpenSSH agent listens."""
PAGEANT = "Pageant"

_FAILURE, _LIST, _KEYS, _SIGN, _SIGNATURE = 5, 11, 12, 13, 14
_FLAGS = {b"rsa-sha2-256": 2, b"rsa-sha2-512": 4}


class AgentError(Exception):
    """An agent that is not there, does not answer, or answers nonsense; the text is for people."""


class AgentRefused(AgentError):
    """The agent answered that it will not do it: no consent, card removed, or the key is bound to destinations."""


class AgentKey(Record):
    """A key that an agent offers."""

    blob: bytes
    """The public key, or certificate."""
    comment: str
    """What the agent calls it; cleaned text."""

    @property
    def certified(self) -> bool:
        """Whether it is a certificate."""
        return is_certificate(self.blob)

    @property
    def label(self) -> str:
        """Type and fingerprint."""
        return f"{kind_of(algorithm_of(self.blob))} {fingerprint_of(self.blob)}"


class Exchange(Protocol):
    """Carries one message to an agent and its answer back, both without the length before them."""

    async def ask(self, message: bytes) -> bytes:
        """Raises OSError, EOFError or AgentError."""
        ...

    def close(self) -> None:
        """End it. May be called more than once."""
        ...


class StreamExchange:
    """An agent behind a socket, or behind a named pipe of Windows."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: bytes) -> bytes:
        """Connects at the first message."""
        done = False
        try:
            if self._streams is None:
                async with asyncio.timeout(CONNECT_LIMIT):
                    self._streams = await open_stream(self._where)
            reader, writer = self._streams
            writer.write(put_string(message))
            await writer.drain()
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size > MAX_MESSAGE:
                raise AgentError(f"its answer has {size} bytes, more than {MAX_MESSAGE}")
            answer = await reader.readexactly(size)
            done = True
            return answer
        finally:
            if not done:  # an answer may still be on its way, and would be taken for the next one's
                self.close()

    def close(self) -> None:
        """The next message would connect again."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Agent:
    """One agent: its keys, and signatures by them."""

    def __init__(self, name: str, exchange: Exchange) -> None:
        self.name = clean(name)
        self._exchange = exchange
        self._turn = asyncio.Lock()

    async def _ask(self, message: bytes, limit: float) -> WireReader:
        try:
            async with asyncio.timeout(limit), self._turn:
                return WireReader(await self._exchange.ask(message))
        except TimeoutError:
            raise AgentError(f"{self.name}: no answer within {limit:g} s") from None
        except EOFError:
            raise AgentError(f"{self.name}: it closed the connection") from None
        except OSError as error:
            raise AgentError(f"{self.name}: {clean(error.strerror or type(error).__name__)}") from None

    async def keys(self) -> list[AgentKey]:
        """All keys that it offers now, in its order. Raises AgentError."""
        answer = await self._ask(bytes([_LIST]), LIST_LIMIT)
        try:
            if answer.number(1) != _KEYS:
                raise AgentError(f"{self.name}: it gives no list of keys")
            found = []
            for _ in range(answer.number()):
                blob, comment = answer.string(), answer.string()
                algorithm_of(blob)
                found.append(AgentKey(blob, clean(comment[:200])))
            return found
        except WireError as error:
            raise AgentError(f"{self.name}: its list of keys is damaged ({error})") from None

    async def sign(self, blob: bytes, data: bytes, algorithm: bytes) -> bytes:
        """A signature over `data` by `algorithm` (RFC 8332 for RSA). Raises AgentRefused, AgentError."""
        flags = _FLAGS.get(algorithm, 0).to_bytes(4, "big")
        answer = await self._ask(bytes([_SIGN]) + put_string(blob) + put_string(data) + flags, SIGN_LIMIT)
        try:
            kind = answer.number(1)
            if kind == _FAILURE:
                raise AgentRefused(f"{self.name}: it would not sign")
            if kind != _SIGNATURE:
                raise AgentError(f"{self.name}: it gives no signature")
            return answer.string()
        except WireError as error:
            raise AgentError(f"{self.name}: its signature is damaged ({error})") from None

    def close(self) -> None:
        """End the connection to it."""
        self._exchange.close()


def places(setting: bool | Path, environment: dict[str, str] | None = None, platform: str = sys.platform) -> list[str]:
    """Where agents may be: the one that the hop names, else the person's own; several on Windows."""
    if isinstance(setting, Path):
        return [PAGEANT if str(setting).lower() == "pageant" else str(setting.expanduser())]
    own = (os.environ if environment is None else environment).get("SSH_AUTH_SOCK", "")
    if platform != "win32":
        return [own] if own else []
    named = [own] if own.startswith("\\\\.\\pipe\\") and own != OPENSSH_PIPE else []
    return [*named, OPENSSH_PIPE, PAGEANT]


async def find_agent(setting: bool | Path) -> tuple[Agent, list[AgentKey]]:
    """The first agent that offers keys, else the first that answers. Raises AgentError when there is none."""
    places_of_it = places(setting)
    if not places_of_it:
        raise AgentError("SSH_AUTH_SOCK is not set, so no agent is known")
    complaints: list[str] = []
    empty: Agent | None = None
    for place in places_of_it:
        agent = Agent(place, PageantExchange() if place == PAGEANT else StreamExchange(place))
        try:
            keys = await agent.keys()
        except AgentError as error:
            agent.close()
            complaints.append(str(error))
            continue
        if keys:
            if empty:
                empty.close()
            return agent, keys
        if empty:
            agent.close()
        empty = empty or agent
    if empty:
        return empty, []
    raise AgentError("; ".join(complaints))


if sys.platform == "win32":
    import ctypes
    import mmap
    import threading
    from ctypes import wintypes

    from app.tasks import in_own_thread

    _WM_COPYDATA = 0x4A
    _COPY_ID = 0x804E50BA
    """What Pageant knows its requests by."""

    class _CopyData(ctypes.Structure):
        _fields_ = (("id", ctypes.c_void_p), ("size", wintypes.DWORD), ("data", ctypes.c_char_p))

    async def open_stream(where: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a named pipe, with overlapped input and output: nothing blocks the loop."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, asyncio.ProactorEventLoop)
        reader = asyncio.StreamReader(limit=MAX_MESSAGE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.create_pipe_connection(lambda: protocol, where)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    class PageantExchange:
        """Pageant, by a window message and a piece of shared memory. Its window blocks us, so a thread waits."""

        async def ask(self, message: bytes) -> bytes:
            """Bounded by SIGN_LIMIT in the thread too."""
            return await in_own_thread(lambda: _ask_pageant(message), name="pageant")

        def close(self) -> None:
            """There is nothing to close."""

    def _ask_pageant(message: bytes) -> bytes:
        user = ctypes.WinDLL("user32", use_last_error=True)
        user.FindWindowW.restype = wintypes.HWND
        user.FindWindowW.argtypes = [wintypes.LPCWSTR, wintypes.LPCWSTR]
        user.SendMessageTimeoutW.argtypes = [
            wintypes.HWND, wintypes.UINT, wintypes.WPARAM, ctypes.POINTER(_CopyData), wintypes.UINT, wintypes.UINT,
            ctypes.POINTER(ctypes.c_size_t),
        ]  # fmt: skip
        window = user.FindWindowW(PAGEANT, PAGEANT)
        if not window:
            raise AgentError("Pageant does not run")
        name = f"PageantRequest{threading.get_ident():08x}"
        with mmap.mmap(-1, MAX_MESSAGE + 4, tagname=name) as memory:
            memory.write(put_string(message))
            copy = _CopyData(_COPY_ID, len(name) + 1, name.encode("ascii"))
            done = ctypes.c_size_t()
            sent = user.SendMessageTimeoutW(
                window, _WM_COPYDATA, 0, ctypes.byref(copy), 0, int(SIGN_LIMIT * 1000), ctypes.byref(done)
            )
            if not sent or not done.value:
                raise AgentError("Pageant did not answer")
            memory.seek(0)
            size = int.from_bytes(memory.read(4), "big")
            if size > MAX_MESSAGE:
                raise AgentError(f"Pageant's answer has {size} bytes, more than {MAX_MESSAGE}")
            return memory.read(size)

else:

    async def open_stream(where: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the agent's socket."""
        return await asyncio.open_unix_connection(where, limit=MAX_MESSAGE)

    class PageantExchange:
        """Pageant runs on Windows only."""

        async def ask(self, message: bytes) -> bytes:
            """Raises AgentError."""
            raise AgentError("Pageant is a program of Windows")

        def close(self) -> None:
            """There is nothing to close."""
