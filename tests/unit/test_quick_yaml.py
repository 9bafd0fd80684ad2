"""What the quick reader reads, the YAML library reads alike; the rest it leaves to the library."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ProfileError
from app.quick_yaml import UNSURE, read
from app.restricted_yaml import load_with_library, load_yaml

KUBECONFIG = b"""apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTg==
    server: https://aks-1.hcp.westeurope.azmk8s.io:443
  name: aks-1
contexts:
  - name: aks-1
    context:
      cluster: aks-1
      user: "clusterUser_rg_aks-1"
      namespace: shop
current-context: aks-1
kind: Config
preferences: {}
users:
- name: other
  user: {token: abc, tls: false}
- name: clusterUser_rg_aks-1
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      args:
      - get-token
      - --server-id
      - 6dae42f8-4368-4678-94ff-3960e28e3630
      command: kubelogin
      env: null
      provideClusterInfo: false
"""


def test_a_kubeconfig_as_tools_write_it() -> None:
    assert read(KUBECONFIG) is not UNSURE
    assert load_yaml(KUBECONFIG, "f") == load_with_library(KUBECONFIG, "f")


@pytest.mark.parametrize("text", [
    "a: &x 1", "a: *x", "a: !!str 1", "a: |\n  b", "a: >\n  b", "a: b c\n  d", "a: 1 # no", "a:\tb", "a: 1\na: 2",
    "a: ü", "? a\n: b", "a: {b: 1, b: 2}", "a: {b: {}}", "a: {b: 1 }", "a: {b}",
    "a: [1]", "- - 1", "-\n  a: 1", "a: b:", "a: 1\n  b: 2", "a:\n  b: 1\n c: 2",
    "--- 1", "a: 1\n---\nb: 2", "%YAML 1.1", "a: 'it''s'", 'a: "\\x41"', " a: 1", "", "a", "a: 1\n...",
    '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": "\\u0041"}', "{a: 1}", '{"a": 1', "[" * 30,
])  # fmt: skip
def test_what_is_not_plain_is_left_to_the_library(text: str) -> None:
    assert read(text.encode()) is UNSURE


KEYS = st.sampled_from(["a", "b", "name", "true", "1", "x-y", "~", "null", "c.d/e", "0"])
TEXTS = st.one_of(
    st.sampled_from(["", "x", "1", "1.5", "true", "no", "~", "null", "1:2:3", "0x10", "2001-01-01", "{}", "[]", "'q'",
                     "{a: 1}", "{a: b, 1: x-y}", "{a: -}", "{1: 1, true: 2}",
                     '"1"', "a:b", "a: b", "a b", "...", "---", "=", "<<", "-", "- x", "#", "x #y", "x:", "C:\\x",
                     "1e5", "+1", "-1", "--x", "-", "@x", "%x", ".", "1_000", "'", "''", "|", "!x"]),
    st.text("abc01 -:.#'\"{}[],&*!|>%@\\/~=_+", max_size=6),
)  # fmt: skip
LINES = st.builds(
    lambda indent, dash, key, text: " " * indent + dash + (f"{key}: {text}" if key else text).rstrip(" "),
    st.integers(0, 6), st.sampled_from(["", "", "", "- ", "-   ", "- - "]), st.one_of(st.none(), KEYS, KEYS), TEXTS,
)  # fmt: skip


def alike(data: bytes) -> None:
    quick = read(data)
    if quick is UNSURE:
        return
    try:
        slow = load_with_library(data, "f")
    except ProfileError as error:
        raise AssertionError(f"{data!r} is read as {quick!r}, the library refuses it: {error.detail}") from error
    assert repr(quick) == repr(slow), data


@settings(max_examples=1500 if os.environ.get("SOAK") else 400, deadline=None)  # 1500 are seven seconds' computing
@given(st.lists(LINES, max_size=8))
def test_lines_of_all_kinds_are_read_alike_or_not_at_all(lines: list[str]) -> None:
    alike("\n".join(lines).encode())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), st.sampled_from([None, 2]))
def test_json_is_read_alike_or_not_at_all(value: dict[str, object], indent: int | None) -> None:
    alike(json.dumps(value, indent=indent).encode())


def test_deep_documents_are_left_to_the_library() -> None:
    deep = "\n".join(" " * level + "a:" for level in range(30)).encode()
    assert read(deep) is UNSURE
    assert read(b'{"a":' * 30 + b"1" + b"}" * 30) is UNSURE
