"""A secret shows itself only when asked by name."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from app.secrets import Secret, SecretMemory


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
