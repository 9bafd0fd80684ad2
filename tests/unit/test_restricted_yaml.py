"""The YAML door: values of a kubeconfig come out as they are meant, and nothing else gets in."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ProfileError
from app.restricted_yaml import MAX_YAML_BYTES, load_yaml


def test_reads_what_kubeconfigs_hold() -> None:
    text = b"""
a: 1
flags: [true, False, "false", yes, ~, null]
block: |
  -----BEGIN
  x
empty:
map: {date: 2001-01-01, minutes: 1:2:3, float: 1.5, hex: 0x10, big: 99999999999999999999}
tagged: [!!str 1, ! 2]
"""
    assert load_yaml(text, "f") == {
        "a": 1,
        "flags": [True, False, "false", "yes", None, None],
        "block": "-----BEGIN\nx\n",
        "empty": None,
        "map": {"date": "2001-01-01", "minutes": "1:2:3", "float": 1.5, "hex": "0x10", "big": "99999999999999999999"},
        "tagged": ["1", "2"],
    }
    assert load_yaml(b"", "f") is None
    assert load_yaml(b'{"json": [1, {"a": null}]}', "f") == {"json": [1, {"a": None}]}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a: &x 1\nb: *x", "line 2: aliases (*name) are not read"),
        (b"a: !!python/object:os.system x", "line 1: the tag tag:yaml.org,2002:python/object:os.system is not read"),
        (b"a: 1\na: 2", "line 2: 'a' is given twice"),
        (b"--- a\n--- b", "line 2: a second document begins; one is read"),
        (b"? [a]\n: b", "line 1: a map or list cannot be a key"),
        (b"[" * 21 + b"]" * 21, "line 1: more than 20 levels deep"),
        (b"[", "line 2, column 1: did not find expected node content"),
        (b"a\0", "unacceptable character"),
        (b"x" * (MAX_YAML_BYTES + 1), "1048576 is the most"),
    ],
)
def test_refuses_with_the_place(data: bytes, why: str) -> None:
    with pytest.raises(ProfileError) as caught:
        load_yaml(data, "kubeconfig \x1b[31m")
    assert why in caught.value.detail
    assert caught.value.title == "Cannot read kubeconfig ␛[31m"
    assert (caught.value.code, caught.value.exit_code) == ("JD-PROFILE-YAML", 3)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(plain)
@settings(max_examples=100, deadline=None)
def test_what_a_library_writes_is_read_back(value: object) -> None:
    class NoAliases(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    text = yaml.dump(value, Dumper=NoAliases).encode()
    assert load_yaml(text, "f") == value


@given(st.binary(max_size=80) | st.text(alphabet="-:{}[]&*!|>'\"#?, \n\tab1", max_size=80).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    try:
        load_yaml(data, "f")
    except ProfileError as error:
        assert error.detail
