"""How far a calibration is: by its work or by its time, whichever is further."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

Tick = Callable[[int, int], None]
"""Told how much is done, and of how much."""
WHOLE: Final = 1000
"""What a tick counts: thousandths of everything."""


@dataclass
class Pace:
    """Work that ends when it is done or when its time is spent.

    A short budget ends before all points are measured, and a long one after them: either alone
    would promise an end that does not come.

    Attributes:
        tick: Who is told.
        budget_s: Time for everything.
    """

    tick: Tick
    budget_s: float
    _start_s: float = field(default_factory=time.monotonic)
    _told: int = 0

    def at(self, done_frac: float) -> None:
        """So much of the work is done; never less than was told before, and not all of it."""
        spent_frac = (time.monotonic() - self._start_s) / self.budget_s
        reached = int(max(done_frac, spent_frac) * WHOLE)
        self._told = max(self._told, min(reached, WHOLE - 1))
        self.tick(self._told, WHOLE)

    def end(self) -> None:
        """All is done."""
        self.tick(WHOLE, WHOLE)
