"""Jumpdeck: a terminal console for private Kubernetes clusters behind jump boxes."""

__version__ = "0.1.0"
