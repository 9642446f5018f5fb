"""How far a command has come: a bar on a terminal, elsewhere a line from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from antiphon_client.cli.show import terminal

LINE_SECONDS = 10.0
"""Between two lines where there is no bar."""

Update = Callable[[float, str], None]
"""Takes how much is done, in the unit of the total, and what is said about it."""


@contextmanager
def shown(what: str, total: float | None, *, bar: bool) -> Iterator[Update]:
    """Show progress on stderr; `total` None: nobody knows how much there is."""
    if not bar:
        yield _lines(total)
        return
    columns = (
        TextColumn("{task.description} {task.percentage:>3.0f} %" if total else "{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True, transient=True) as progress:
        task = progress.add_task(what, total=total, state="")
        yield lambda done, state: progress.update(task, completed=done, state=state)


def bar_wanted() -> bool:
    """Whether stderr is a terminal that can be drawn anew."""
    return terminal(Console(stderr=True))


def _lines(total: float | None) -> Update:
    last = time.monotonic()

    def update(done: float, state: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            click.echo(f"{done / total:.0%} {state}" if total else state, err=True)

    return update
