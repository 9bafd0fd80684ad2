"""Moments as Go's templates know them: read from stamps and numbers, printed by a layout such as `2006-01-02 15:04:05`.

Layouts: https://pkg.go.dev/time#pkg-constants. What is read: what stern's `toTime` reads (RFC 3339 and its relatives,
RFC 1123, seconds since 1970 as a number or as text, with a fraction).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

RFC3339_NANO = "2006-01-02T15:04:05.999999999Z07:00"
_STRING = "2006-01-02 15:04:05.999999999 -0700 MST"

_UNIX = re.compile(r"(-?\d{1,11})(?:\.(\d{1,9}))?")
_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?)?\s?(Z|[+-]\d\d:?\d\d)?(?: [A-Z]{3,4})?"
)
_LAYOUT = re.compile(
    r"[.,]0+(?!\d)|[.,]9+(?!\d)|January|Jan|Monday|Mon|MST|2006|-07:00|-0700|-07|Z07:00|Z0700|002|01|02|03|04|05|06"
    r"|15|PM|pm|_2|1|2|3|4|5"
)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Moment(NamedTuple):
    """A moment with nanoseconds; `when` has a zone and no fraction."""

    when: datetime
    nanos: int = 0

    def text(self, layout: str = _STRING) -> str:
        """As Go's `Format` prints it; without a layout as Go's `String` does."""
        return _LAYOUT.sub(lambda match: self._word(match.group()), layout)

    def at(self, zone: tzinfo | None) -> Moment:
        """The same moment in another zone; None is the local one. Raises ValueError outside of the years 1 to 9999."""
        try:
            return Moment(self.when.astimezone(zone), self.nanos)
        except OverflowError as error:
            raise ValueError("the time cannot be shown in that zone") from error

    def _word(self, word: str) -> str:
        if word[0] in ".,":
            digits = f"{self.nanos:09}"[: len(word) - 1]
            digits = digits.rstrip("0") if word[1] == "9" else digits.ljust(len(word) - 1, "0")
            return word[0] + digits if digits else ""
        return _WORDS[word](self.when)


def _offset(when: datetime, between: str = "", zulu: str = "") -> str:
    seconds = (when.utcoffset() or timedelta()) // timedelta(seconds=1)
    if zulu and not seconds:
        return zulu
    hours, rest = divmod(abs(seconds), 3600)
    return f"{'-' if seconds < 0 else '+'}{hours:02}{between}{rest // 60:02}"


_WORDS: dict[str, Callable[[datetime], str]] = {
    "2006": lambda when: f"{when.year:04}",
    "06": lambda when: f"{when.year % 100:02}",
    "01": lambda when: f"{when.month:02}",
    "1": lambda when: str(when.month),
    "Jan": lambda when: _MONTHS[when.month - 1][:3],
    "January": lambda when: _MONTHS[when.month - 1],
    "02": lambda when: f"{when.day:02}",
    "2": lambda when: str(when.day),
    "_2": lambda when: f"{when.day:2}",
    "002": lambda when: f"{when.timetuple().tm_yday:03}",
    "Mon": lambda when: _DAYS[when.weekday()][:3],
    "Monday": lambda when: _DAYS[when.weekday()],
    "15": lambda when: f"{when.hour:02}",
    "03": lambda when: f"{when.hour % 12 or 12:02}",
    "3": lambda when: str(when.hour % 12 or 12),
    "04": lambda when: f"{when.minute:02}",
    "4": lambda when: str(when.minute),
    "05": lambda when: f"{when.second:02}",
    "5": lambda when: str(when.second),
    "PM": lambda when: "PM" if when.hour >= 12 else "AM",
    "pm": lambda when: "pm" if when.hour >= 12 else "am",
    "MST": lambda when: when.tzname() or _offset(when),
    "-0700": _offset,
    "-07:00": lambda when: _offset(when, ":"),
    "-07": lambda when: _offset(when)[:3],
    "Z0700": lambda when: _offset(when, "", "Z"),
    "Z07:00": lambda when: _offset(when, ":", "Z"),
}

ZERO = Moment(datetime(1, 1, 1, tzinfo=UTC))
"""What Go shows for a time that was not understood."""


def moment(value: Any) -> Moment:
    """A moment out of what a log holds. Raises ValueError."""
    if isinstance(value, Moment):
        return value
    if isinstance(value, float):
        value = f"{value:.9f}"
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if (unix := _UNIX.fullmatch(text)) is not None:
        return _since_1970(int(unix.group(1)), int((unix.group(2) or "").ljust(9, "0")))
    if (stamp := _STAMP.fullmatch(text)) is not None:
        day, clock, fraction, zone = stamp.groups()
        when = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{zone or 'Z'}")
        return Moment(when, int((fraction or "").ljust(9, "0")))
    try:
        when = parsedate_to_datetime(text)
        return Moment(when if when.tzinfo else when.replace(tzinfo=UTC))
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise ValueError("not a time") from error


def _since_1970(seconds: int, nanos: int) -> Moment:
    try:
        return Moment((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(), nanos)
    except (OverflowError, OSError) as error:
        raise ValueError("not a time") from error


def zone_of(name: str) -> tzinfo | None:
    """The zone of a name as Go's `LoadLocation` takes it; None for the local one. Raises ValueError."""
    if name in ("", "UTC"):
        return UTC
    if name == "Local":
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("this zone is not known here") from error
