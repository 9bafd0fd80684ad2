"""Reviews as kubectl posts them: protobuf in Kubernetes' envelope."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.lab.protobuf import MAGIC, read_review


def field(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def review(spec: bytes, kind: bytes = b"SelfSubjectAccessReview") -> bytes:
    head = field(1, field(1, b"authorization.k8s.io/v1") + field(2, kind))
    return MAGIC + head + field(2, field(1, b"") + field(2, spec) + field(3, b"\x08\x00")) + field(3, b"")


def test_an_access_review_of_a_resource() -> None:
    attributes = field(1, b"team-a") + field(2, b"get") + field(3, b"") + field(5, b"pods") + field(6, b"log")
    spec = {"resourceAttributes": {"namespace": "team-a", "verb": "get", "resource": "pods", "subresource": "log"}}
    assert read_review(review(field(1, attributes)), "SelfSubjectAccessReview") == {"spec": spec}


def test_an_access_review_of_a_path() -> None:
    attributes = field(1, b"/metrics") + field(2, b"get")
    spec = {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}
    assert read_review(review(field(2, attributes)), "SelfSubjectAccessReview") == {"spec": spec}


def test_a_rules_review() -> None:
    raw = review(field(1, b"team-a"), b"SelfSubjectRulesReview")
    assert read_review(raw, "SelfSubjectRulesReview") == {"spec": {"namespace": "team-a"}}


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        assert "spec" in read_review(MAGIC + data, "SelfSubjectAccessReview")
    except ValueError:
        return


def test_without_the_magic_number_it_is_no_object() -> None:
    with pytest.raises(ValueError, match="magic"):
        read_review(b"{}", "SelfSubjectReview")
