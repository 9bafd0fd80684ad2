"""How long a session waits for its next try (R-05), by a clock that a test turns."""

from __future__ import annotations

import random

from app.sessions.pacing import LEAST_CAP, PATIENT_CAP, RETURN_CAP, RETURN_PERIOD, SETTLED, Pacing
from app.tasks import Backoff

SAMPLES = 10_000
FLOOR = 0.2


class Turned:
    """A pacing and its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.backoff = Backoff(rng=random.Random(7))
        self.pacing = Pacing(self.backoff, clock=lambda: self.now)

    def up_for(self, seconds: float) -> None:
        self.pacing.up()
        self.now += seconds
        self.pacing.lost()

    def fail(self, *, took: float = 0.0, retry_after: float | None = None) -> float:
        """A try that took so long and failed; the wait after it."""
        self.pacing.begin()
        self.now += took
        return self.pacing.next_wait(retry_after)


def test_what_was_never_up_waits_longer_and_longer_up_to_the_patient_cap() -> None:
    turned = Turned()
    waits = [turned.fail() for _ in range(SAMPLES)]
    assert waits[0] <= 0.5
    assert all(FLOOR <= wait <= PATIENT_CAP for wait in waits)
    assert max(waits) > PATIENT_CAP * 0.99
    assert min(waits[10:]) < 1.0  # full jitter


def test_what_was_lost_just_now_is_tried_quickly() -> None:
    turned = Turned()
    turned.up_for(1.0)
    waits = [turned.fail() for _ in range(SAMPLES)]
    assert all(FLOOR <= wait <= RETURN_CAP for wait in waits)
    assert max(waits) > RETURN_CAP * 0.99


def test_a_server_that_is_back_is_found_within_five_seconds() -> None:
    login = 2.0  # through several hops
    for away in range(1, int(RETURN_PERIOD)):
        turned = Turned()
        turned.up_for(SETTLED + 1)
        back = turned.now + away
        while turned.now < back:
            turned.now += turned.fail()
        assert turned.now + login - back <= 5.0, away


def test_after_the_return_period_it_is_patient() -> None:
    turned = Turned()
    turned.up_for(1.0)
    for _ in range(20):
        turned.fail()
    turned.now += RETURN_PERIOD
    assert max(turned.fail() for _ in range(1000)) > RETURN_CAP


def test_a_link_that_flaps_gets_the_quick_tries_once() -> None:
    turned = Turned()
    turned.up_for(1.0)
    for _ in range(20):
        turned.fail()
    turned.now += RETURN_PERIOD
    turned.up_for(1.0)
    assert max(turned.fail() for _ in range(1000)) > RETURN_CAP


def test_a_session_that_settled_begins_anew() -> None:
    turned = Turned()
    for _ in range(20):
        turned.fail()
    turned.up_for(SETTLED + 1)
    assert turned.fail() <= 0.5
    assert all(turned.fail() <= RETURN_CAP for _ in range(1000))


def test_a_try_that_took_long_is_part_of_the_wait() -> None:
    turned = Turned()
    turned.up_for(1.0)
    for _ in range(10):
        turned.fail()
    waits = [turned.fail(took=10.0) for _ in range(10)]
    assert all(FLOOR <= wait <= LEAST_CAP for wait in waits)


def test_a_wait_that_the_far_end_names_wins_when_it_is_longer() -> None:
    assert Turned().fail(retry_after=12.0) == 12.0


def test_what_fails_alike_too_often_in_a_row_is_lasting() -> None:
    pacing = Turned().pacing
    assert [pacing.hopeless("JD-SSH-PROTOCOL") for _ in range(2)] == [False, True]
    assert [pacing.hopeless("JD-SSH-CLOSED-EARLY") for _ in range(5)] == [False] * 4 + [True]
    assert not any(pacing.hopeless("JD-TCP-REFUSED") for _ in range(100))
    was_up = Pacing()
    was_up.up()
    assert not any(was_up.hopeless("JD-SSH-CLOSED-EARLY") for _ in range(100)), "it has been the right port"
    assert [was_up.hopeless("JD-SSH-PROTOCOL") for _ in range(2)] == [False, True]
    assert not pacing.hopeless("JD-SSH-PROTOCOL")
    pacing.up()
    assert not pacing.hopeless("JD-SSH-PROTOCOL")
