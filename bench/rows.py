"""What a benchmark hands back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the report. `met` None means that it could not be measured; `ratio` then says why."""

    goal: str
    """P-1 and so on."""
    what: str
    ratio: str
    """As measured, e.g. `66x` or `0.13x`; or which peer is missing."""
    target: str
    """As the goal says it, e.g. `>= 30x`."""
    met: bool | None

    def line(self) -> str:
        """The row as it is printed: goal, what, ratio, goal, verdict."""
        verdict = {True: "met", False: "missed", None: "not measured"}[self.met]
        return f"{self.goal:<5} {self.what:<72} {self.ratio:>10}  {self.target:<9} {verdict}"


def at_least(goal: str, what: str, ratio: float, target: float) -> Row:
    """A row that is met when `ratio` is `target` or more."""
    return Row(goal, what, f"{ratio:.3g}x", f">= {target:g}x", ratio >= target)


def at_most(goal: str, what: str, ratio: float, target: float, unit: str = "x") -> Row:
    """A row that is met when `ratio` is `target` or less."""
    return Row(goal, what, f"{ratio:.3g}{unit}", f"<= {target:g}{unit}", ratio <= target)


def missing(goal: str, what: str, peer: str) -> Row:
    """A row whose peer is not on this machine."""
    return Row(goal, what, f"no {peer}", "", None)
