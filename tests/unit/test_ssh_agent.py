"""Agents that misbehave: each way is an error with the agent's name, none a hang or a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.routes.ssh_agent import (
    MAX_MESSAGE,
    OPENSSH_PIPE,
    PAGEANT,
    Agent,
    AgentError,
    AgentRefused,
    StreamExchange,
    find_agent,
    places,
)
from app.routes.ssh_wire import put_string

KEY = put_string(b"ssh-ed25519") + put_string(b"k" * 32)
LIST = b"\x0c" + (1).to_bytes(4, "big") + put_string(KEY) + put_string(b"jo\x1b[2J")


class SmallAgent:
    """Answers each request with the next of its prepared answers, as they are; then closes."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.path, self.answers = path, list(answers)
        self.requests: list[bytes] = []
        self.asked = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.answers:
            try:
                size = int.from_bytes(await reader.readexactly(4), "big")
                self.requests.append(await reader.readexactly(size))
            except asyncio.IncompleteReadError:
                break
            self.asked.set()
            writer.write(self.answers.pop(0))
            await writer.drain()
        writer.close()

    async def __aenter__(self) -> Agent:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        self.agent = Agent("an agent", StreamExchange(str(self.path)))
        return self.agent

    async def __aexit__(self, *_: object) -> None:
        self.agent.close()
        self._server.close()
        await self._server.wait_closed()


async def test_keys_and_signatures(tmp_path: Path) -> None:
    small = SmallAgent(tmp_path / "a", put_string(LIST), put_string(b"\x0e" + put_string(b"signed")))
    async with small as agent:
        (key,) = await agent.keys()
        assert key.blob == KEY and key.comment == "jo␛[2J" and not key.certified
        assert await agent.sign(KEY, b"data", b"rsa-sha2-512") == b"signed"
        assert small.requests == [b"\x0b", b"\x0d" + put_string(KEY) + put_string(b"data") + b"\0\0\0\x04"]


DAMAGED = [
    (put_string(b""), "damaged"), (put_string(b"\x05"), "no list"), (put_string(b"\x0c\xff\xff\xff\xff"), "damaged"),
    (put_string(LIST[:-2]), "damaged"), ((MAX_MESSAGE + 1).to_bytes(4, "big"), "more than"), (b"\0\0", "closed"),
    (b"", "closed"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), DAMAGED)
async def test_answers_that_are_none(tmp_path: Path, answer: bytes, words: str) -> None:
    async with SmallAgent(tmp_path / "a", answer) as agent:
        with pytest.raises(AgentError, match=words):
            await agent.keys()


async def test_a_refusal_is_told_from_a_failure(tmp_path: Path) -> None:
    answers = (put_string(b"\x05"), put_string(b"\x06"), put_string(b"\x0e\0\0"))
    async with SmallAgent(tmp_path / "a", *answers) as agent:
        with pytest.raises(AgentRefused):
            await agent.sign(KEY, b"", b"ssh-ed25519")
        for words in ("no signature", "damaged"):
            with pytest.raises(AgentError, match=words):
                await agent.sign(KEY, b"", b"ssh-ed25519")


async def test_a_wait_that_ends_early_does_not_mix_up_answers(tmp_path: Path) -> None:
    small = SmallAgent(tmp_path / "a", b"", put_string(LIST))
    async with small as agent:
        waiting = asyncio.ensure_future(agent.keys())
        await small.asked.wait()
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait({waiting})
        assert [key.blob for key in await agent.keys()] == [KEY], "over a new connection"


def test_where_agents_are() -> None:
    assert places(True, {}, "linux") == []
    assert places(True, {"SSH_AUTH_SOCK": "/run/agent"}, "darwin") == ["/run/agent"]
    assert places(False, {"SSH_AUTH_SOCK": "/c/git/agent"}, "win32") == [OPENSSH_PIPE, PAGEANT]
    assert places(True, {"SSH_AUTH_SOCK": r"\\.\pipe\mine"}, "win32") == [r"\\.\pipe\mine", OPENSSH_PIPE, PAGEANT]
    assert places(Path("/run/other"), {"SSH_AUTH_SOCK": "/run/agent"}, "linux") == ["/run/other"]
    assert places(Path("pageant"), {}, "win32") == [PAGEANT]


async def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="No such file"):
        await find_agent(tmp_path / "nothing")
    with pytest.raises(AgentError, match="Windows"):
        await find_agent(Path("pageant"))
