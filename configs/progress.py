"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


class Progress:
    """Counts to `total` from `initial`; shows rate, time left and the named figures given to `update`."""

    def __init__(self, title: str, total: int, initial: int = 0, unit: str = "step") -> None:
        self.title, self.total, self.unit = title, total, unit
        self.count = self.initial = initial
        self.started = self.shown = time.monotonic()
        self.bar = tqdm(total=total, initial=initial, desc=title, unit=unit, leave=True, dynamic_ncols=True) \
            if sys.stderr.isatty() else None

    def update(self, amount: int = 1, **figures: Any) -> None:
        """Adds `amount`; `figures` are shown as name=value."""
        self.count += amount
        if self.bar is not None:
            self.bar.set_postfix(figures, refresh=False)
            self.bar.update(amount)
            return
        now = time.monotonic()
        if self.count >= self.total or now - self.shown >= SECONDS_BETWEEN_LINES:
            self.shown = now
            rate = (self.count - self.initial) / max(now - self.started, 1e-9)
            left = (self.total - self.count) / max(rate, 1e-9)
            text = "".join(f", {name} {value}" for name, value in figures.items())
            speed = f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}"
            print(f"{self.title}: {self.count}/{self.total} {self.unit}s, {speed}/s, {left:.0f} s left{text}",
                  file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the finished bar on the screen."""
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
