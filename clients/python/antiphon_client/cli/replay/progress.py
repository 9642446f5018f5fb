"""How far a replay has come: a bar on a terminal, elsewhere a line from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from antiphon_client.cli.replay.tally import Tally
from antiphon_client.cli.show import terminal

LINE_SECONDS = 10.0
"""Between two lines where there is no bar."""


@contextmanager
def shown(tally: Tally, total: int, *, bar: bool) -> Iterator[Callable[[], None]]:
    """Show the tally on stderr; call what is yielded after each request."""
    if not bar:
        yield _lines(tally, total)
        return
    columns = (
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    begun = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), expand=True, transient=True) as progress:
        task = progress.add_task("replay", total=total, state="")
        yield lambda: progress.update(task, completed=tally.requests, state=_state(tally, time.monotonic() - begun))


def bar_wanted() -> bool:
    """Whether stderr is a terminal that can be drawn anew."""
    return terminal(Console(stderr=True))


def _lines(tally: Tally, total: int) -> Callable[[], None]:
    begun = last = time.monotonic()

    def update() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            click.echo(f"{tally.requests:,}/{total:,} {_state(tally, now - begun)}", err=True)

    return update


def _state(tally: Tally, seconds: float) -> str:
    rate = tally.requests / seconds if seconds > 0 else 0.0
    share = "–" if tally.hit_share is None else f"{tally.hit_share:.1%}"
    return f"{rate:,.0f}/s · hits {share} · errors {tally.failed:,}"
