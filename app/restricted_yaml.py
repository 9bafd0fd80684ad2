"""The door for YAML from outside (kubeconfigs): bounded, without aliases, and nothing in it can run.

Requirement S-20: at most 1 MiB, no aliases, at most 20 levels. Only maps, lists, strings, booleans, null and plain
numbers come out: a quoted "false" stays a string, and YAML 1.1's `yes`, dates and base-60 numbers stay strings too.
"""

from __future__ import annotations

from app.errors import ProfileError
from app.quick_yaml import UNSURE, plain_value, read
from app.text import clean, prose

MAX_YAML_BYTES = 1 << 20
"""Bytes of a document; a kubeconfig of a thousand contexts has a quarter of this."""
MAX_YAML_DEPTH = 20
"""Levels of nesting; a kubeconfig needs six."""

_CORE_TAG = "tag:yaml.org,2002:"


def load_yaml(data: bytes, what: str) -> object:
    """The document in `data` as dict, list, str, bool, int, float or None; None when it is empty.

    `what` names it in errors, for example "kubeconfig ~/.kube/config". Raises ProfileError (JD-PROFILE-YAML).
    """
    if len(data) > MAX_YAML_BYTES:
        raise _refused(what, f"it has {len(data)} bytes; {MAX_YAML_BYTES} is the most that is read")
    quick = read(data)
    return quick if quick is not UNSURE else load_with_library(data, what)


def load_with_library(data: bytes, what: str) -> object:
    """As `load_yaml`, by the library whatever the document; loading it takes a sixth of a command's start."""
    import yaml

    loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml the slow parser serves
    builder = _Builder(what)
    try:
        for event in yaml.parse(data, Loader=loader):
            builder.take(type(event).__name__, event)
    except yaml.MarkedYAMLError as exc:
        at = f"line {exc.problem_mark.line + 1}, column {exc.problem_mark.column + 1}: " if exc.problem_mark else ""
        raise _refused(what, at + prose(exc.problem or "not YAML")) from exc
    except (yaml.YAMLError, ValueError) as exc:
        raise _refused(what, prose(str(exc))) from exc
    return builder.root


class _Builder:
    """Builds values from parser events, so that no constructor of the library takes part."""

    def __init__(self, what: str) -> None:
        self.root: object = None
        self._what = what
        self._open: list[dict[object, object] | list[object]] = []
        self._keys: list[object] = []
        """The key that waits for its value, per open container; `_NO_KEY` when the next scalar is the key."""
        self._documents = 0

    def take(self, kind: str, event: object) -> None:
        """One parser event, by the name of its class."""
        line = getattr(getattr(event, "start_mark", None), "line", -1) + 1
        if kind == "AliasEvent":
            raise _refused(self._what, f"line {line}: aliases (*name) are not read")
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise _refused(self._what, f"line {line}: a second document begins; one is read")
        elif kind == "ScalarEvent":
            self._put(_scalar(self._what, line, event), line)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._begin(kind, event, line)
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._open.pop()
            self._keys.pop()

    def _begin(self, kind: str, event: object, line: int) -> None:
        if len(self._open) >= MAX_YAML_DEPTH:
            raise _refused(self._what, f"line {line}: more than {MAX_YAML_DEPTH} levels deep")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", _CORE_TAG + "map", _CORE_TAG + "seq"):
            raise _refused(self._what, f"line {line}: the tag {clean(str(tag))} is not read")
        value: dict[object, object] | list[object] = {} if kind == "MappingStartEvent" else []
        self._put(value, line)
        self._open.append(value)
        self._keys.append(_NO_KEY)

    def _put(self, value: object, line: int) -> None:
        if not self._open:
            self.root = value
            return
        holder = self._open[-1]
        if isinstance(holder, list):
            holder.append(value)
        elif self._keys[-1] is _NO_KEY:
            if isinstance(value, dict | list):
                raise _refused(self._what, f"line {line}: a map or list cannot be a key")
            if value in holder:
                raise _refused(self._what, f"line {line}: {clean(str(value))!r} is given twice")
            self._keys[-1] = value
        else:
            holder[self._keys[-1]] = value
            self._keys[-1] = _NO_KEY


_NO_KEY = object()


def _scalar(what: str, line: int, event: object) -> object:
    text = str(getattr(event, "value", ""))
    tag = getattr(event, "tag", None)
    plain, _quoted = getattr(event, "implicit", (False, False))
    if tag in ("!", _CORE_TAG + "str") or (tag is None and not plain):
        return text
    if tag not in (None, _CORE_TAG + "bool", _CORE_TAG + "int", _CORE_TAG + "null"):
        raise _refused(what, f"line {line}: the tag {clean(str(tag))} is not read")
    return plain_value(text)


def _refused(what: str, why: str) -> ProfileError:
    return ProfileError(f"Cannot read {clean(what)}", why, "Correct the file and try again.", code="JD-PROFILE-YAML")
