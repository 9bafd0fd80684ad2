"""Ages as kubectl prints them (Kubernetes apimachinery `util/duration` HumanDuration)."""

from __future__ import annotations

_MINUTE = 60
_HOUR = 3600
_DAY_HOURS = 24
_YEAR_HOURS = 24 * 365


def _pair(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"


def human_duration(seconds: float) -> str:
    """The short form of a length of time in seconds: `119s`, `9m59s`, `3h`, `2d1h`, `731d` as `2y1d`.

    A moment up to a second in the future is `0s` (clocks differ), one further away is `<invalid>`.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    minutes = whole // _MINUTE
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    return _hours(whole // _HOUR, minutes)


def _hours(hours: int, minutes: int) -> str:
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // _DAY_HOURS
    if hours < 8 * _DAY_HOURS:
        return _pair(days, "d", hours % _DAY_HOURS, "h")
    if hours < 2 * _YEAR_HOURS:
        return f"{days}d"
    if hours < 8 * _YEAR_HOURS:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def age(moment: float | None, now: float) -> str:
    """How long ago `moment` (POSIX seconds) was at `now`; `<unknown>` when there is no moment."""
    return "<unknown>" if moment is None else human_duration(now - moment)
