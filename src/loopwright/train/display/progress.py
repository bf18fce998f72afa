"""What a person sees while a run trains: a tqdm bar, a line an epoch; plain lines without a terminal."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from loopwright.events import EpochRow

PLAIN_EVERY = 30.0
"""Seconds between two plain lines inside a long epoch, where there is no terminal."""
PATIENCE = 1.0
"""Seconds that going forward in the data may take before it shows how far it is."""


class Progress:
    """One loop's bar and lines, all on stderr; refreshed only when the loop says so (throttled)."""

    def __init__(self, *, shown: bool, epochs: int | None, bar: bool = True, lr_of: str = ""):
        self._lr_of = lr_of
        self._shown = shown
        self._epochs = epochs
        self._terminal = sys.stderr is not None and (sys.stderr.isatty() or _in_notebook())
        self._with_bar = bar
        self._bar: Any = None
        self._last_plain = time.perf_counter()
        self._done = 0

    def epoch(self, epoch: int, total: int | None, initial: int = 0) -> None:
        """Begin an epoch's bar at ``initial`` of ``total`` turns."""
        self._done = initial
        self._label = self._epoch_label(epoch)
        if not (self._shown and self._terminal and self._with_bar):
            return
        if self._bar is None:
            self._bar = _bar_class()(
                desc=self._label, total=total, leave=False, file=sys.stderr, dynamic_ncols=True, unit="batch",
                mininterval=0, bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
                "[{elapsed}<{remaining}{postfix}]" if total else None,
            )  # fmt: skip
        else:
            self._bar.reset(total=total)
        self._bar.set_description_str(self._label, refresh=False)
        if initial:
            self._bar.update(initial)

    def show(self, done: int, values: dict[str, float]) -> None:
        """Refresh: ``done`` turns of this epoch, and the interval's values."""
        if not self._shown:
            return
        if self._bar is not None:
            known = [item for item in values.items() if item != ("samples_per_s", 0)]
            self._bar.set_postfix_str(" ".join(map(self._pair, known)), False)
            self._bar.n = done
            self._bar.refresh()
        elif not self._terminal and time.perf_counter() - self._last_plain > PLAIN_EVERY:
            self._last_plain = time.perf_counter()
            self.line(f"{self._label}  {done} batches  " + _values(values))

    def _pair(self, item: tuple[str, float]) -> str:
        """One value; beside a learning rate, whose it is where there are several."""
        of = f" ({self._lr_of})" if item[0] == "lr" and self._lr_of else ""
        return _pair(*item) + of

    def epoch_line(self, row: EpochRow) -> None:
        """Leave one line on the screen for an epoch."""
        self._last_plain = time.perf_counter()
        self.line(f"{self._epoch_label(row.epoch)}  {_values(row.values)}  {_time(row.seconds)}")

    def line(self, text: str) -> None:
        """Write a line above the bar."""
        if not self._shown:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif not self._with_bar:  # above the user's own
            from tqdm import tqdm

            tqdm.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _epoch_label(self, epoch: int) -> str:
        if self._epochs is None:
            return f"epoch {epoch + 1}"
        return f"epoch {epoch + 1:{len(str(self._epochs))}}/{self._epochs}"


def going_forward(count: int, *, shown: bool) -> Iterable[int]:
    """Count to ``count`` like ``range``; what takes longer than ``PATIENCE`` shows how far it is."""
    if not shown or sys.stderr is None:
        return range(count)
    return _bar_class()(
        range(count), desc="going forward in the data", unit="batch", leave=False,
        file=sys.stderr, dynamic_ncols=True, delay=PATIENCE,
    )  # fmt: skip


def _pair(name: str, value: float) -> str:
    if name == "samples_per_s":
        return f"{value:,.0f} samples/s"
    return f"{name} {number(value)}"


def _values(values: dict[str, float]) -> str:
    return "  ".join(_pair(name, value) for name, value in values.items())


def number(value: float) -> str:
    """Return a number in at most eight characters or so: 0.1234, 12.3, 1.2e-05, NaN."""
    if math.isnan(value):
        return "NaN"
    size = abs(value)
    if size >= 1e6 or (0 < size < 1e-3):
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if size < 10 else f"{value:.1f}"


def _time(seconds: float) -> str:
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _bar_class() -> Any:
    """Return tqdm's bar for this place; without ipywidgets its notebook bar is a warning and no bar."""
    if _in_notebook() and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    active = shell.get_ipython()
    return active is not None and type(active).__name__ == "ZMQInteractiveShell"
