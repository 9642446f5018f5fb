"""`antiphon stats --watch`: the same again and again, and what has happened in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import click
from rich.console import Console
from rich.live import Live

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cache import AsyncCacheClient
from antiphon_client.cli.show import as_json, terminal
from antiphon_client.cli.stats.rows import Growth, growth
from antiphon_client.cli.stats.view import view
from antiphon_client.errors import (
    AntiphonError,
    DeadlineExceededError,
    InternalError,
    ResourceExhaustedError,
    UnavailableError,
)

_PASSING = (UnavailableError, DeadlineExceededError, ResourceExhaustedError, InternalError)
"""What a server that is restarted, or busy, may answer for a while."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The last statistics that came, how fast they grew, and why there are no newer ones, if so."""

    stats: cache_pb2.GetStatsResponse
    grown: Growth | None = None
    problem: str = ""


async def watch(client: AsyncCacheClient, namespace: str, *, interval: float, show: Callable[[Reading], None]) -> None:
    """Read every `interval` seconds and show it, until cancelled.

    Raises the `AntiphonError` of the first reading; later ones are shown if they may pass, as when the server restarts.
    """
    request = cache_pb2.GetStatsRequest(namespace=namespace)
    last = Reading(await client.get_stats(request))
    read_at = time.monotonic()
    show(last)
    while True:
        await asyncio.sleep(interval)
        try:
            stats = await client.get_stats(request)
        except _PASSING as error:
            last = Reading(last.stats, problem=_problem(error))
        else:
            now = time.monotonic()
            last = Reading(stats, growth(last.stats, stats, now - read_at))
            read_at = now
        show(last)


async def watch_live(client: AsyncCacheClient, namespace: str, *, interval: float) -> None:
    """Watch in a terminal that is drawn anew each time."""
    console = Console()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

        def show(reading: Reading) -> None:
            renderable = view(
                reading.stats,
                width=console.width,
                height=console.height - 1,
                grown=reading.grown,
                status=reading.problem,
            )
            live.update(renderable, refresh=True)

        await watch(client, namespace, interval=interval, show=show)


async def watch_lines(client: AsyncCacheClient, namespace: str, *, interval: float, objects: bool) -> None:
    """Watch as lines of text, or of JSON."""

    def show(reading: Reading) -> None:
        click.echo(_object(reading) if objects else _line(reading))

    await watch(client, namespace, interval=interval, show=show)


def live_wanted() -> bool:
    """Whether stdout is a terminal that can be drawn anew."""
    return terminal(Console())


def _problem(error: AntiphonError) -> str:
    return f"{time.strftime('%H:%M:%S')} no answer ({error.reason or error.code.name}); trying on"


def _line(reading: Reading) -> str:
    at = time.strftime("%H:%M:%S")
    if reading.problem:
        return reading.problem
    lookups = reading.stats.lookups
    grown = f" · {reading.grown.line()}" if reading.grown else ""
    return (
        f"{at} {reading.stats.entries_valid:,} entries · {lookups.exact:,} exact, {lookups.semantic:,} semantic, "
        f"{lookups.miss:,} misses, {lookups.bypass:,} bypassed{grown}"
    )


def _object(reading: Reading) -> str:
    return json.dumps({"problem": reading.problem} if reading.problem else as_json(reading.stats))
