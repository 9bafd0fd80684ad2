"""The store of the practice cluster: order, revisions, history, what is forgotten."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lab.store import Expired, Object, Store


def pod(name: str, namespace: str = "ns") -> Object:
    return {"metadata": {"name": name, "namespace": namespace}}


def names(store: Store, namespace: str = "", at: int | None = None) -> list[str]:
    return [key for key, _ in store.entries("pods", namespace, at=at)]


def test_a_new_object_gets_uid_revision_and_creation_time() -> None:
    store = Store(clock=lambda: 0.0, rng=random.Random(1), first=10)
    meta = store.put("pods", pod("a"))["metadata"]
    assert meta["resourceVersion"] == "11"
    assert meta["creationTimestamp"] == "1970-01-01T00:00:00Z"
    again = store.put("pods", pod("a"))["metadata"]
    assert (again["uid"], again["resourceVersion"]) == (meta["uid"], "12")
    assert Store(rng=random.Random(1)).put("pods", pod("a"))["metadata"]["uid"] == meta["uid"]


def test_lists_are_in_the_order_of_etcd_keys() -> None:
    store = Store()
    for namespace, name in (("team", "b"), ("team-a", "a"), ("team", "a-b"), ("team", "a")):
        store.put("pods", pod(name, namespace))
    assert names(store) == ["team-a/a", "team/a", "team/a-b", "team/b"]
    assert names(store, "team") == ["team/a", "team/a-b", "team/b"]


def test_what_was_put_is_not_shared_with_the_caller() -> None:
    store, mine = Store(), pod("a")
    store.put("pods", mine)
    mine["metadata"]["name"] = "changed"
    assert names(store) == ["ns/a"]


def test_changes_after_a_revision() -> None:
    store = Store(first=10)
    store.put("pods", pod("a"))
    store.modify("pods", "ns", "a", lambda found: found.update(status={"phase": "Running"}))
    store.delete("pods", "ns", "a")
    assert [(change.kind, change.revision) for change in store.changes("pods", 11)] == [
        ("MODIFIED", 12),
        ("DELETED", 13),
    ]
    assert store.delete("pods", "ns", "a") is None
    assert store.get("pods", "ns", "a") is None


def test_a_full_history_forgets_the_oldest_and_says_so() -> None:
    store = Store(first=0, history=8)
    for index in range(20):
        store.put("pods", pod(f"p{index}"))
    with pytest.raises(Expired, match="too old resource version: 1 "):
        store.changes("pods", 1)
    assert 8 <= len(store.changes("pods", 12)) <= 10


def test_a_compaction_keeps_those_who_are_up_to_date() -> None:
    store = Store(first=0)
    store.put("pods", pod("a"))
    store.put("pods", pod("b"))
    store.put("events", pod("e"))
    store.compact()
    assert store.changes("pods", 2) == []
    with pytest.raises(Expired):
        store.entries("pods", at=1)


def test_expiring_makes_every_earlier_revision_too_old() -> None:
    store = Store(first=0)
    store.put("pods", pod("a"))
    with store.subscribe("pods") as subscription:
        store.expire()
        assert subscription.expired
    for resource in ("pods", "never-seen"):
        with pytest.raises(Expired):
            store.changes(resource, 1)
    assert store.changes("pods", store.revision) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=20))
def test_every_earlier_state_can_be_listed(steps: list[tuple[str, bool]]) -> None:
    store = Store(first=0)
    seen = {0: names(store)}
    for name, delete in steps:
        if delete:
            store.delete("pods", "ns", name)
        else:
            store.put("pods", pod(name))
        seen[store.revision] = names(store)
    for revision, state in seen.items():
        assert names(store, at=revision) == state
