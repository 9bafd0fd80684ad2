"""A secret shows itself only when asked by name; it comes from memory, the store or the person."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import traceback
from collections.abc import Iterable
from pathlib import Path

import pytest

from app.asking import SecretAnswer
from app.errors import SignInError
from app.secrets.lab import lab_channel
from app.secrets.secret import (
    Secret,
    SecretItem,
    SecretMemory,
    SecretSource,
    passphrase_name,
    password_name,
    token_name,
)
from app.secrets.store import StoredName, StoreStatus, own_store
from tests.fakes import FakeAsker


def test_a_secret_never_shows_itself() -> None:
    secret = Secret("sentinel")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret:>20}", f"{secret!r}", repr([secret])):
        assert "sentinel" not in shown
    assert secret.reveal() == "sentinel"
    for copied in (copy.copy(secret), copy.deepcopy([secret])[0]):
        assert copied == secret


def test_a_secret_is_neither_pickled_nor_hashed_nor_a_dict() -> None:
    secret = Secret("senti" + "nel")
    for attempt in (pickle.dumps, hash, vars):
        with pytest.raises(TypeError) as caught:
            attempt(secret)
        assert "sentinel" not in "".join(traceback.format_exception(caught.value))


def test_secrets_compare_by_value_and_with_nothing_else() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret("")


def test_memory_forgets() -> None:
    memory = SecretMemory()
    memory.keep("p", Secret("t"))
    assert memory.get("p") == Secret("t")
    memory.forget("p")
    memory.forget("p")
    assert memory.get("p") is None


NAME = "password ops@jump01:22"
ITEM = SecretItem(NAME, "Password of ops@jump01:22")


class FakeStore:
    """A store in memory; keeps what was dropped. `fault` is raised by every read and write."""

    def __init__(self, *, usable: bool = True, asks: bool = True, **held: str) -> None:
        self.asks, self.usable = asks, usable
        self.held = {name.replace("_", " "): Secret(value) for name, value in held.items()}
        self.dropped: list[str] = []
        self.fault: SignInError | None = None

    async def status(self) -> StoreStatus:
        return StoreStatus("a store", self.usable, "" if self.usable else "no daemon")

    async def get(self, name: str) -> Secret | None:
        if self.fault:
            raise self.fault
        return self.held.get(name)

    async def set(self, name: str, secret: Secret) -> str:
        if self.fault:
            raise self.fault
        self.held[name] = secret
        return "a store"

    async def remove(self, name: str) -> None:
        del self.held[name]

    async def names(self) -> list[StoredName]:
        return [StoredName(name, "a store") for name in self.held]

    def drop(self, name: str) -> None:
        self.dropped.append(name)
        self.held.pop(name, None)


class NotingAsker(FakeAsker):
    """Also keeps Jumpdeck's own sentences, and whether keeping was offered."""

    def __init__(self, secrets: Iterable[str] = (), *, keep: bool = False) -> None:
        super().__init__(secrets, keep=keep)
        self.notes: list[str] = []
        self.offered: list[bool] = []

    async def ask_secret(self, what: str, *, may_keep: bool = False) -> SecretAnswer | None:
        self.offered.append(may_keep)
        return await super().ask_secret(what, may_keep=may_keep)

    def note(self, text: str) -> None:
        self.notes.append(text)


def source(asker: FakeAsker | None, store: FakeStore) -> SecretSource:
    return SecretSource(asker, SecretMemory(), store)


async def test_memory_comes_first_then_the_store_then_the_person() -> None:
    store, asker = FakeStore(), NotingAsker(["typed"])
    secrets = source(asker, store)
    assert await secrets.get(ITEM) == await secrets.get(ITEM) == Secret("typed")
    assert (asker.asked, asker.offered, store.held) == ([ITEM.what], [True], {})
    store.held[NAME] = Secret("stored")
    assert await secrets.get(ITEM) == Secret("typed")
    assert await source(NotingAsker(), store).get(ITEM) == Secret("stored")


async def test_it_is_kept_only_when_the_person_says_so() -> None:
    store = FakeStore()
    assert await source(NotingAsker(["typed"], keep=True), store).get(ITEM) == Secret("typed")
    assert store.held == {NAME: Secret("typed")}


async def test_without_a_usable_store_keeping_is_not_offered_and_the_reason_is_said_once() -> None:
    store, asker = FakeStore(usable=False), NotingAsker(["one", "two"], keep=True)
    secrets = source(asker, store)
    await secrets.get(ITEM)
    await secrets.get(SecretItem("token p", "Token for p"))
    assert asker.offered == [False, False] and not store.held
    assert asker.notes == ["secrets are kept in memory only: no usable secret store here (no daemon)"]


async def test_who_is_asked_again_hears_that_the_last_one_was_refused() -> None:
    asker = NotingAsker(["wrong", "right"])
    secrets = source(asker, FakeStore())
    await secrets.get(ITEM)
    secrets.refused(ITEM)
    assert await secrets.get(ITEM) == Secret("right")
    assert asker.asked == [ITEM.what, f"{ITEM.what} (the last one was refused)"]


@pytest.mark.parametrize("usable", [True, False])
async def test_storing_it_first_is_advised_only_where_that_works(usable: bool) -> None:
    with pytest.raises(SignInError) as caught:
        await source(None, FakeStore(usable=usable)).get(ITEM)
    assert ("jumpdeck secrets set password ops@jump01:22" in caught.value.hint) is usable
    assert "without --no-input" in caught.value.hint
    with pytest.raises(SignInError) as caught:
        await source(NotingAsker(), FakeStore(usable=usable)).get(ITEM)
    assert caught.value.hint == "Try again, and type it.", "who gave up knows how to be asked"


async def test_a_refused_secret_is_never_sent_again_in_this_process() -> None:
    store, memory = FakeStore(), SecretMemory()
    store.held[NAME] = Secret("stored")
    asker = NotingAsker(["typed"])
    secrets = SecretSource(asker, memory, store)
    assert await secrets.get(ITEM) == Secret("stored")
    secrets.refused(ITEM)
    with pytest.raises(SignInError) as caught:
        await SecretSource(None, memory, store).get(ITEM)
    assert (caught.value.code, caught.value.layer, int(caught.value.exit_code)) == ("JD-SECRET-NEEDED", "secret", 4)
    assert caught.value.detail == "Password of ops@jump01:22: the stored one was refused"
    assert "jumpdeck secrets set password ops@jump01:22" in caught.value.hint
    assert await secrets.get(ITEM) == Secret("typed")
    assert store.held == {NAME: Secret("stored")}, "it may be right elsewhere: only the person changes it"
    store.held[NAME] = Secret("renewed")
    secrets.refused(ITEM)
    assert await secrets.get(ITEM) == Secret("renewed")


async def test_a_labs_secret_is_given_again_after_a_fault_that_refused_it() -> None:
    store = FakeStore(asks=False)
    store.held[NAME] = Secret("practice")
    secrets = source(None, store)
    await secrets.get(ITEM)
    secrets.refused(ITEM)
    assert await secrets.get(ITEM) == Secret("practice")


async def test_a_secret_kept_just_now_leaves_the_store_when_it_is_refused() -> None:
    store = FakeStore()
    secrets = source(NotingAsker(["wrong"], keep=True), store)
    await secrets.get(ITEM)
    secrets.refused(ITEM)
    assert (store.dropped, store.held) == ([NAME], {})


async def test_a_store_that_fails_leaves_the_person_to_ask() -> None:
    store, asker = FakeStore(), NotingAsker(["typed"], keep=True)
    store.fault = SignInError("The secret store cannot be read", "it did not answer", code="JD-SECRET-STORE")
    assert await source(asker, store).get(ITEM) == Secret("typed")
    assert asker.notes == [
        "Password of ops@jump01:22: The secret store cannot be read: it did not answer",
        "Password of ops@jump01:22: kept in memory only: The secret store cannot be read: it did not answer",
    ]
    with pytest.raises(SignInError) as caught:
        await source(None, store).get(ITEM)
    assert caught.value.code == "JD-SECRET-NEEDED" and "did not answer" in caught.value.detail


async def test_six_that_need_the_same_secret_ask_once() -> None:
    asker = NotingAsker(["typed"])
    secrets = source(asker, FakeStore())
    assert len(set(map(id, await asyncio.gather(*(secrets.get(ITEM) for _ in range(6)))))) == 1
    assert len(asker.asked) == 1


async def test_who_gives_up_or_practises_is_not_asked_again() -> None:
    for asker, store, why in ((NotingAsker(), FakeStore(), "none was given"),
                              (NotingAsker(["x"]), FakeStore(asks=False), "the lab has none")):  # fmt: skip
        with pytest.raises(SignInError) as caught:
            await source(asker, store).get(ITEM)
        assert why in caught.value.detail
    assert asker.asked == []


def test_names_are_the_same_for_all_who_make_them() -> None:
    assert password_name("ops", "jump01") == NAME
    assert password_name("ops", "fd00::1", 2222) == "password ops@[fd00::1]:2222"
    assert passphrase_name(Path("~/.ssh/../.ssh/id")) == f"passphrase {Path.home()}/.ssh/id"
    assert token_name("prod-weu") == "token prod-weu"


async def test_a_lab_gives_out_its_secrets_and_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUMPDECK_CONFIG_DIR", str(tmp_path))
    assert lab_channel() is None
    requests: list[dict[str, str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(json.loads(await reader.readline()))
        known = requests[-1]["name"] == NAME
        reply = {"ok": True, "value": "practice"} if known else {"error": {"title": "no such secret"}}
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (tmp_path / "lab.json").write_text(json.dumps({"pid": 1, "config": "x", "socket": "", "port": port, "token": "t"}))
    asker = NotingAsker(["typed"])
    secrets = SecretSource(asker, SecretMemory())
    async with server:
        assert await secrets.get(ITEM) == Secret("practice")
        for _ in range(2):
            with pytest.raises(SignInError) as caught:
                await secrets.get(SecretItem("token p", "Token for p"))
            assert (caught.value.code, asker.asked) == ("JD-SECRET-NEEDED", [])
        assert requests[0] == {"command": "secret", "name": NAME, "token": "t"}
        with pytest.raises(SignInError) as caught:
            await own_store().set(NAME, Secret("x"))
        assert caught.value.code == "JD-SECRET-LAB"
    with pytest.raises(SignInError) as caught:
        await SecretSource(asker, SecretMemory()).get(ITEM)
    assert "The lab does not answer" in caught.value.detail and asker.asked == []
