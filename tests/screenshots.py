"""Makes the README's picture from the program itself: `make screenshots`.

Runs the console headless over a lab with the living estate and saves what it shows as SVG.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from app.lab.practice import Lab

SIZE = (130, 38)


async def make(folder: Path) -> None:
    """Write console.svg: pods and a followed log."""
    async with Lab.open() as lab:
        os.environ["JUMPDECK_CONFIG_DIR"] = str(lab.config_dir)
        os.environ["JUMPDECK_STATE_DIR"] = str(lab.config_dir / "state")
        from app.console import build_app
        from app.profiles.store import load

        app = build_app(load, "lab-direct", ascii_only=False)
        async with app.run_test(size=SIZE) as pilot:
            await _until(pilot, lambda: app.main.active_view is not None and bool(app.main.active_view.table.rows))
            await pilot.press(*"/checkout", "enter", "down", "l")
            await pilot.pause(1.0)
            await pilot.press("enter")
            await pilot.pause(2.0)
            (folder / "console.svg").write_text(app.export_screenshot(title="Jumpdeck"))


async def _until(pilot: object, ready: object) -> None:
    async with asyncio.timeout(20):
        while not ready():  # type: ignore[operator]
            await pilot.pause(0.1)  # type: ignore[attr-defined]


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
