"""The live view of a run on stderr: a small table on a terminal, one line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from renderfarm.cli.say import printable, say
from renderfarm.run.loop import Tally

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_EVERY_S = 10.0


class View(Protocol):
    """Shows a tally."""

    def __call__(self, tally: Tally) -> None:
        """Draw the newest state."""


def rate_per_s(tally: Tally) -> float:
    """Finished images (accepted and exhausted) per second since the first one could be expected."""
    return tally.accepted_now / tally.elapsed_s if tally.elapsed_s > 0 else 0.0


def eta(tally: Tally) -> str:
    """Time left at the present rate."""
    rate = rate_per_s(tally)
    if not rate or not tally.remaining:
        return "–"
    left_s = round(tally.remaining / rate)
    return f"{left_s // 3600}:{left_s // 60 % 60:02}:{left_s % 60:02}"


def line(tally: Tally) -> str:
    """Everything in one line."""
    reasons = ", ".join(f"{name} {count}" for name, count in tally.reasons.most_common(4))
    return (
        f"{tally.accepted} accepted · {tally.pending} attempts stored, not committed yet · {tally.rejected_attempts} attempts rejected · "
        f"{tally.exhausted} exhausted · {tally.failed} failed · {tally.remaining} left · "
        f"{rate_per_s(tally):.2f} images/s · ETA {eta(tally)}" + (f" · rejects: {reasons}" if reasons else "")
    )


@contextlib.contextmanager
def live() -> Iterator[View]:
    """A view for the time of a run."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as screen:
        yield lambda tally: screen.update(_table(tally))


class _Plain:
    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_EVERY_S:
            self._last = now
            say(line(tally), file=sys.stderr, flush=True)


def _table(tally: Tally) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    done = tally.planned - tally.remaining
    table = Table.grid(padding=(0, 2))
    table.add_row("images", ProgressBar(total=max(1, tally.planned), completed=done, width=40), f"{done} of {tally.planned}")
    table.add_row("accepted", f"[green]{tally.accepted}[/]", f"{tally.pending} stored, not committed yet")
    reasons = printable(", ".join(f"{k} {n}" for k, n in tally.reasons.most_common(4)))
    table.add_row("rejected", f"{tally.rejected_attempts} attempts", reasons)
    table.add_row("exhausted / failed", f"{tally.exhausted} / {tally.failed}", "")
    table.add_row("left", f"{tally.remaining}", f"{rate_per_s(tally):.2f} images/s, ETA {eta(tally)}")
    return table
