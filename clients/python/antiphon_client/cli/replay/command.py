"""`antiphon replay`: a file of questions, asked in order, and what came of it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from antiphon_client.cli import exits
from antiphon_client.cli.calls import CLIENT, complain, report, reported_settings
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.finite import FiniteRange
from antiphon_client.cli.hints import next_step, unreachable
from antiphon_client.cli.progress import bar_wanted
from antiphon_client.cli.replay import progress
from antiphon_client.cli.replay.report import rows
from antiphon_client.cli.replay.run import Replay
from antiphon_client.cli.replay.source import STDIN, InputError, Source
from antiphon_client.cli.replay.tally import Tally
from antiphon_client.cli.show import console, table
from antiphon_client.cli.targets import COMPLETION, Settings
from antiphon_client.errors import AntiphonError

DEFAULT_CONCURRENCY = 16
MOST_CONCURRENCY = 1_024
"""As many calls as a server of the suite works on at once by default."""

DEFAULT_TIMEOUT = 60.0
"""Seconds; the server's own default for `Complete`."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True))
@click.option(
    "--concurrency",
    type=click.IntRange(1, MOST_CONCURRENCY),
    default=DEFAULT_CONCURRENCY,
    show_default=True,
    help="Requests at once, each of another namespace.",
)
@click.option("--limit", type=click.IntRange(0), help="Only the first so many lines. Default: all.")
@click.option(
    "--timeout",
    type=FiniteRange(0, 3_600, min_open=True),
    default=DEFAULT_TIMEOUT,
    show_default=True,
    help="Seconds that one request may take.",
)
@click.option("--out", type=click.Path(dir_okay=False), help="Write one JSON object per request into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def replay(file: str, *, concurrency: int, limit: int | None, timeout: float, out: str | None, as_json: bool) -> None:
    """Ask every question of FILE and show what the cache made of them.

    FILE has one JSON object per line, `{"text": "…"}`, with optional `namespace`, `system` and `model`; other keys are
    ignored, and so are blank lines. It may be gzipped; `-` is stdin.

    Lines of one namespace keep their order: the next is sent when the one before has its answer. A file of one
    namespace (or of none, which is `default`) therefore takes as long as its answers take together, whatever
    --concurrency says. Different namespaces go at once if they are within 10,000 lines of each other.

    The file (with --limit, its beginning) is checked before the first call: if a line is wrong nothing is sent and
    stderr names the lines. A request that fails is counted by its code and the replay goes on, unless nothing was
    answered before it and nothing can be: nobody is there, or the key is refused. Ctrl-C shows what was done.

    An object of --out has `index` (from 0, blank lines not counted), `outcome` (EXACT, SEMANTIC, MISS, BYPASS),
    `similarity`, `p_wrong`, `matched_prompt`, `veto_reasons`, `model`, `cost_nano_usd`, `ms` and `error`; null where
    nothing is known. They are in the order of the answers.

    \b
    Exit codes: 0 all were answered; 1 some failed; 65 a line of FILE is wrong;
    69 nobody is there; 130 Ctrl-C; the others as for every command.
    """
    with reported_settings():
        connection = Connection.to(COMPLETION, Settings())
    tally = Tally()
    begun = time.monotonic()
    with ExitStack() as stack:
        source = stack.enter_context(Source(file, limit=limit))
        total = _check(source, concurrency)
        records = stack.enter_context(_opened(out, file)) if out is not None else None

        async def body(changed: Callable[[], None]) -> None:
            async with connection.completion() as client:
                running = Replay(tally, records, timeout=timeout, changed=changed)
                await running.run(client, source.lines(), concurrency=concurrency)

        begun = time.monotonic()
        with reported_settings():
            code = _outcome(tally, total, connection, body)
    seconds = time.monotonic() - begun
    if as_json:
        interrupted = code == exits.INTERRUPTED
        click.echo(json.dumps(tally.as_json(seconds=seconds, interrupted=interrupted), ensure_ascii=False))
    elif tally.answered or tally.requests == total:  # else stderr says why it could not begin
        console().print(table(rows(tally, seconds=seconds)))
        _explain(tally, connection)
    sys.exit(code)


def _explain(tally: Tally, connection: Connection) -> None:
    """Say once for each kind of error what it was about."""
    for name, error in tally.first_errors.items():
        hint = next_step(error, address=connection.address, role=CLIENT)
        click.echo(f"{name}: {error.message}" + (f"\n  {hint}" if hint else ""), err=True)


def _check(source: Source, concurrency: int) -> int:
    """Return how many requests there are; end the program if a line is wrong."""
    try:
        checked = source.check()
    except InputError as error:
        _refuse(error)
        sys.exit(exits.DATA)
    except OSError as error:
        complain(f"FILE cannot be read: {error.strerror}")
        sys.exit(exits.DATA)
    if checked.namespaces == 1 and checked.requests > 1 and concurrency > 1:
        click.echo("all lines are of one namespace: they are sent one after the other", err=True)
    return checked.requests


def _outcome(
    tally: Tally, total: int, connection: Connection, body: Callable[[Callable[[], None]], Coroutine[Any, Any, None]]
) -> int:
    """Replay, with progress on stderr; return the exit code."""
    try:
        with progress.shown(tally, total, bar=bar_wanted()) as changed:
            asyncio.run(body(changed))
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except AntiphonError as error:
        report(error, connection.address)
        return exits.UNAVAILABLE if unreachable(error) else exits.FAILED
    except InputError as error:
        complain(f"FILE was changed meanwhile: {error}")
        return exits.DATA
    except OSError as error:
        complain(f"--out: cannot be written: {error.strerror}")
        return exits.CANNOT_WRITE
    return exits.FAILED if tally.failed else 0


def _refuse(error: InputError) -> None:
    complain("FILE cannot be replayed, and nothing was sent:")
    for problem in error.problems:
        click.echo(f"  {problem}", err=True)


@contextmanager
def _opened(out: str, file: str) -> Iterator[TextIO]:
    """Open the file of `--out`, replacing what it held."""
    path = Path(out)
    if file != STDIN and path.exists() and path.samefile(file):
        raise click.UsageError("--out is FILE itself")
    try:
        opened = path.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        complain(f"--out: cannot be written: {error.strerror}")
        sys.exit(exits.CANNOT_WRITE)
    with opened:
        yield opened
