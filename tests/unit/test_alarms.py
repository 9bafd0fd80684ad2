"""Sleep, a stop and a change of network, told by clocks and a routing table that a test turns by hand."""

from __future__ import annotations

from app.sessions.alarms import TICKS_PER_LOOK, Alarms


class Computer:
    """Two clocks and the ways that packets leave by."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_700_000_000.0, 100.0
        self.ways: dict[str, str | None] = {"192.0.2.1": "10.0.0.5"}
        self.ranges: tuple[str, ...] = ()
        self.rung: list[str] = []
        self.alarms = Alarms(
            self.rung.append,
            ranges=lambda: self.ranges,
            wall=lambda: self.wall,
            monotonic=lambda: self.monotonic,
            way=lambda address: self.ways.get(address),
        )

    def pass_time(self, seconds: float, *, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += seconds if wall is None else wall
        self.alarms.tick()

    def look(self) -> None:
        """As many ticks as one look at the network takes."""
        for _ in range(TICKS_PER_LOOK):
            self.pass_time(1.0)


def test_quiet_seconds_ring_nothing() -> None:
    computer = Computer()
    for _ in range(100):
        computer.pass_time(1.02)
    assert computer.rung == []


def test_a_wall_clock_that_ran_on_alone_is_sleep() -> None:
    computer = Computer()
    computer.pass_time(1.0, wall=61.0)  # Linux: the monotonic clock stood still
    assert computer.rung == ["this computer slept or was stopped for 60 s"]
    computer.pass_time(1.0)
    assert len(computer.rung) == 1


def test_a_late_tick_is_sleep_or_a_stop() -> None:
    computer = Computer()
    computer.pass_time(61.0)  # SIGSTOP, or a system whose monotonic clock runs on in sleep
    assert computer.rung == ["this computer slept or was stopped for 60 s"]


def test_a_busy_machine_and_a_clock_set_back_ring_nothing() -> None:
    computer = Computer()
    computer.pass_time(4.0)
    computer.pass_time(1.0, wall=-3600.0)
    computer.pass_time(1.0, wall=3.0)
    assert computer.rung == []


def test_another_source_address_is_a_change_of_network() -> None:
    computer = Computer()
    computer.look()
    computer.ways["192.0.2.1"] = "192.168.1.20"
    computer.look()
    assert computer.rung == ["the network has changed"]
    computer.ways["2001:db8::1"] = "2001:db8:5::7"
    computer.look()
    del computer.ways["192.0.2.1"]
    computer.look()
    assert len(computer.rung) == 3
    computer.look()
    assert len(computer.rung) == 3


def test_a_vpn_beside_the_default_route_is_seen_through_what_profiles_expect() -> None:
    computer = Computer()
    computer.ranges = ("10.40.0.1",)  # a profile is opened: that alone is no change
    computer.look()
    assert computer.rung == []
    computer.ways["10.40.0.1"] = "10.99.0.2"
    computer.look()
    assert computer.rung == ["the network has changed"]


def test_after_sleep_a_new_network_rings_once() -> None:
    computer = Computer()
    computer.ways["192.0.2.1"] = "192.168.1.20"
    computer.pass_time(1.0, wall=500.0)
    computer.look()
    assert computer.rung == ["this computer slept or was stopped for 499 s"]
