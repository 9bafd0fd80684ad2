"""Where Jumpdeck keeps its files."""

from __future__ import annotations

import os
from pathlib import Path


def config_dir() -> Path:
    """The user's configuration folder; `JUMPDECK_CONFIG_DIR` overrides. Local on Windows: it must not roam."""
    if override := os.environ.get("JUMPDECK_CONFIG_DIR"):
        return Path(override).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("jumpdeck", appauthor=False))


def state_dir() -> Path:
    """The folder of the log, the audit record and what was trusted; `JUMPDECK_STATE_DIR` overrides."""
    if override := os.environ.get("JUMPDECK_STATE_DIR"):
        return Path(override).expanduser()
    import platformdirs

    return Path(platformdirs.user_state_dir("jumpdeck", appauthor=False))
