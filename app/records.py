"""Frozen data classes that cost nothing to define.

The standard library compiles six functions for each data class, half a millisecond every time a command starts, and
loads the compiler's own modules for it. Here one base class does the work when a record is made: 2 µs each, so what is
made by the thousand is a `msgspec.Struct` instead.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would be a third of the time that a small command takes
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self, TypeVar, dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_):  # noqa: ANN003, ANN201
        return lambda kind: kind


_MISSING: Any = object()


class _Field:
    """What `field` noted, until the class is made."""

    def __init__(self, default: object, default_factory: Callable[[], object] | None, shown: bool) -> None:
        self.default, self.default_factory, self.shown = default, default_factory, shown


def field(*, default: Any = _MISSING, default_factory: Callable[[], Any] | None = None, repr: bool = True) -> Any:  # noqa: A002
    """A field with a default made anew for each record, or one that `repr` does not show (secrets)."""
    return _Field(default, default_factory, repr)


@dataclass_transform(frozen_default=True, eq_default=True, field_specifiers=(field,))
class Record:
    """A frozen record; fields are the annotated names of the class, in order, as in a data class.

    Equal when class and fields are, hashed by its fields. Setting a field raises AttributeError.
    """

    _names: tuple[str, ...] = ()
    _factories: dict[str, Callable[[], object]] = {}  # noqa: RUF012 (each subclass gets its own)
    _unshown: frozenset[str] = frozenset()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        names: dict[str, None] = dict.fromkeys(cls._names)
        factories, unshown = dict(cls._factories), set(cls._unshown)
        for name in cls.__annotations__:
            names[name] = None
            noted = cls.__dict__.get(name)
            if not isinstance(noted, _Field):
                continue
            if noted.default is _MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, noted.default)
            if noted.default_factory is not None:
                factories[name] = noted.default_factory
            if not noted.shown:
                unshown.add(name)
        cls._names, cls._factories, cls._unshown = tuple(names), factories, frozenset(unshown)

    def __init__(self, *values: Any, **named: Any) -> None:
        cls, held = type(self), self.__dict__
        if len(values) > len(cls._names):
            raise TypeError(f"{cls.__name__} has {len(cls._names)} fields, {len(values)} values were given")
        held.update(zip(cls._names, values, strict=False))
        for name, value in named.items():
            if name not in cls._names or name in held:
                raise TypeError(f"{cls.__name__}: {name} is no field of it, or given twice")
            held[name] = value
        if len(held) == len(cls._names):
            return
        for name in cls._names:
            if name not in held:
                held[name] = self._default(name)

    @classmethod
    def _default(cls, name: str) -> object:
        if name in cls._factories:
            return cls._factories[name]()
        found = next((kind.__dict__[name] for kind in cls.__mro__ if name in kind.__dict__), _MISSING)
        if found is _MISSING:
            raise TypeError(f"{cls.__name__}: {name} is missing")
        return found

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__[name] for name in self._names))

    def __repr__(self) -> str:
        shown = (f"{name}={self.__dict__[name]!r}" for name in self._names if name not in self._unshown)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __replace__(self, **changes: Any) -> Self:
        """For `copy.replace` of Python 3.13 and later."""
        for name in changes:
            if name not in self._names:
                raise TypeError(f"{type(self).__name__}: {name} is no field of it")
        return type(self)(**{name: changes.get(name, self.__dict__[name]) for name in self._names})


def replace(record: R, **changes: Any) -> R:
    """A record like this one but for some fields. Raises TypeError for a field that it does not have."""
    return record.__replace__(**changes)
