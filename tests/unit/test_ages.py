"""Ages read as kubectl's do."""

import pytest

from app.ages import age, human_duration

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1.9, "0s"), (-1, "0s"), (-0.5, "0s"), (0, "0s"), (1.99, "1s"), (119, "119s"), (119.9, "119s"),
        (120, "2m"), (121, "2m1s"), (599, "9m59s"), (600, "10m"), (179 * MINUTE, "179m"), (180 * MINUTE - 1, "179m"),
        (180 * MINUTE, "3h"), (7 * HOUR + 59 * MINUTE, "7h59m"), (8 * HOUR, "8h"), (47 * HOUR, "47h"),
        (48 * HOUR - 1, "47h"), (48 * HOUR, "2d"), (49 * HOUR, "2d1h"), (192 * HOUR - 1, "7d23h"), (192 * HOUR, "8d"),
        (729 * DAY, "729d"), (730 * DAY, "2y"), (731 * DAY, "2y1d"),
        (8 * 365 * DAY, "8y"), (8 * 365 * DAY - 1, "7y364d"),
        (30 * 365 * DAY, "30y"),
    ],
)  # fmt: skip
def test_a_duration_has_kubectls_short_form(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_a_missing_moment_is_unknown() -> None:
    assert age(None, 5.0) == "<unknown>"
    assert age(1.0, 5.0) == "4s"
