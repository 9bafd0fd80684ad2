"""`jumpdeck demo` without a terminal: the tour as text."""

from __future__ import annotations

import re
from pathlib import Path

from tests.leftovers import lasting
from tests.running import jumpdeck


async def test_the_tour_shows_pods_and_ten_log_lines_of_every_profile(tmp_path: Path) -> None:
    done = await jumpdeck("demo", JUMPDECK_TEST_MARK=tmp_path.name)
    assert done.code == 0, done.err
    assert done.err == ""
    visits = done.out.split("── lab-")[1:]
    assert [visit.split(":")[0] for visit in visits] == [
        "direct", "ssh", "ssh-chain", "bastion", "bastion-aks", "invoke", "arc", "arc-token",
    ]  # fmt: skip
    assert "\x1b" not in done.out
    for visit in visits:
        assert re.search(r"^NAMESPACE +NAME +READY +STATUS +RESTARTS +AGE$", visit, re.M)
        assert re.search(r"^default +clock-0 +1/1 +Running +0 ", visit, re.M)
        numbers = [int(n) for n in re.findall(r"^tick (\d+) of clock-0$", visit, re.M)]
        assert len(numbers) == 10 and numbers == list(range(numbers[0], numbers[0] + 10))
    assert lasting(f"JUMPDECK_TEST_MARK={tmp_path.name}") == []
