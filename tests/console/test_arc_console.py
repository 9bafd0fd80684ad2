"""The console over two connected clusters of the lab at once: pods of both, the tunnel's facts on the route page."""

from __future__ import annotations

import asyncio

import pytest
from textual.pilot import Pilot

from app.console import build_app
from app.profiles.store import load
from app.secrets.secret import MEMORY, token_name
from screens.app import ConsoleApp
from tests.azure_world import azure_world
from tests.console.conftest import shown
from tests.peers import require_linux

require_linux("the stand-in is a script")
LIMIT = 90.0
"""Seconds after which a screen that does not show something is a failure; a busy machine takes fifty to connect."""
LOOK = 0.05
"""Seconds between two looks at it."""


async def until(pilot: Pilot, *wanted: str) -> str:
    """What is on the screen once all of this is."""
    text = ""
    try:
        async with asyncio.timeout(LIMIT):
            while not all(word in text for word in wanted):
                await pilot.pause(LOOK)
                text = shown(pilot)
    except TimeoutError:
        raise AssertionError(f"{wanted} not in\n{text}") from None
    return text


async def test_two_connected_clusters_are_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with azure_world() as portal:
        MEMORY.forget(token_name("lab-arc-token"))  # of another test's lab
        monkeypatch.setenv("JUMPDECK_CONFIG_DIR", str(portal.lab.config_dir))
        app = build_app(load, "lab-arc", ascii_only=False)
        assert isinstance(app, ConsoleApp)
        async with app.run_test(size=(140, 40)) as pilot:
            await until(pilot, "web", "shop-01")
            await app.main.open("lab-arc-token")
            await until(pilot, "web", "shop-02")
            portal.lab.cluster.add_pod({"metadata": {"name": "second", "namespace": "default"}})
            await until(pilot, "second", "shop-02")
            app.main.action_route()
            text = " ".join((await until(pilot, "correlation id")).split())
            assert "service-account token, arcProxy 1.3.035022, tunnel 2:5" in text
            await pilot.press("escape")
            await app.main.open("lab-arc")
            await until(pilot, "second", "shop-01")
            app.main.action_route()
            text = " ".join((await until(pilot, "correlation id")).split())
            assert "Entra, arcProxy 1.3.035022, tunnel 2:5" in text
