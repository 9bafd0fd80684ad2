"""A record behaves as a frozen data class does."""

from __future__ import annotations

import copy
import pickle

import pytest

from app.records import Record, field, replace


class Point(Record):
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)
    secret: str = field(default="", repr=False)


class Named(Point):
    name: str = "origin"


def test_fields_come_by_place_or_name_and_the_rest_by_default() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 2).y, Point(x=3).x) == (1, 0, 2, 3)
    assert Point(1).tags == []
    assert Point(1).tags is not Point(1).tags
    assert (Named(1, name="a").name, Named(1).name, Named(1, 2).y) == ("a", "origin", 2)


@pytest.mark.parametrize("make", [
    lambda: Point(*()), lambda: Point(*range(5)), lambda: Point(1, **{"x": 2}), lambda: Point(1, **{"z": 2}),
    lambda: replace(Point(1), z=2),
])  # fmt: skip
def test_missing_double_and_unknown_fields_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(TypeError, match="Point"):
        make()


def test_it_is_equal_by_class_and_fields_and_hashed_by_fields() -> None:
    assert Point(1, 2) == Point(1, y=2) != Point(1, 3)
    assert Point(1) != Named(1)
    assert Point(1) != (1, 0, [], "")
    assert hash(Point(1, 2, (), "")) == hash(Point(1, 2, (), ""))  # type: ignore[arg-type]


def test_it_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.x
    assert point == Point(1)


def test_it_shows_its_fields_but_not_the_hidden_ones() -> None:
    assert repr(Point(1, secret="sesame")) == "Point(x=1, y=0, tags=[])"
    assert repr(Named(1)) == "Named(x=1, y=0, tags=[], name='origin')"


def test_copies() -> None:
    point = Named(1, 2, ["a"], "s", "n")
    assert replace(point, y=3) == Named(1, 3, ["a"], "s", "n")
    assert copy.copy(point) == copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
