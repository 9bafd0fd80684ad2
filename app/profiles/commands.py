"""Words that the command line knows; no profile may have one as its name."""

from __future__ import annotations

RESERVED: frozenset[str] = frozenset({
    "pods", "logs", "exec", "connect", "hold", "dial", "why", "whoami", "doctor", "sign-in", "sign-out", "secrets",
    "audit", "completion", "trust", "profiles", "lab", "demo", "help", "version",
})  # fmt: skip
"""Names of commands, also of those that later versions bring."""
