"""Steps of opening a connected cluster that may take their time, by the label under which they show themselves."""

from __future__ import annotations

BY_AZ = "az connectedk8s proxy"
DOWNLOAD = "download of the Arc proxy program"
PATIENCE = {BY_AZ: 135.0, DOWNLOAD: 900.0}
"""Seconds that a command gives such a step, all tries together, beside its own limit: az may take 120 for a start, and
a download has a limit of its own, after a person has agreed to it."""
