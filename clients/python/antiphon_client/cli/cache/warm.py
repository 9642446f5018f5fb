"""`antiphon cache warm`: questions with their answers, stored before anybody asks."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import click

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cache import AsyncCacheClient
from antiphon_client.cli import exits, progress
from antiphon_client.cli.cache.files import Input, UnreadableError
from antiphon_client.cli.cache.pairs import Terms, WrongLineError, read_pair
from antiphon_client.cli.calls import OPERATOR, complain, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.finite import FiniteRange
from antiphon_client.cli.targets import CACHE
from antiphon_client.errors import AntiphonError, PermissionDeniedError, UnauthenticatedError, UnavailableError

BATCH = 16
"""Entries that are stored at once: so many share a pass of the embedder, and leave it to others in between."""

TIMEOUT = 30.0
"""Seconds for one entry: nobody waits for it, and its embedding may have to wait for others'."""

SHOWN_PROBLEMS = 20
"""Lines that are told one by one."""


@dataclass(slots=True)
class _Sums:
    stored: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        entries = "entry" if self.stored == 1 else "entries"
        wrong = f", {len(self.problems):,} not" if self.problems else ""
        return f"stored {self.stored:,} {entries}{wrong}"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True))
@click.option("--namespace", default="", help="Where a line names none. Default: `default`.")
@click.option("--tag", "tags", multiple=True, help="Give every entry this tag; may be repeated.")
@click.option("--ttl", type=FiniteRange(0, min_open=True), help="Seconds that they live, where a line does not say.")
@click.option(
    "--answer-model", default="warm", show_default=True, help="Who made the answers, where a line does not say."
)
@click.option("--dry-run", is_flag=True, help="Only read the file.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
def warm(
    file: str,
    *,
    namespace: str,
    tags: tuple[str, ...],
    ttl: float | None,
    answer_model: str,
    dry_run: bool,
    as_json_: bool,
) -> None:
    """Store the questions and answers of FILE, so that the first who asks is answered from the cache.

    FILE has one JSON object a line, `{"question": "…", "answer": "…"}`, with optional `system`, `namespace`, `model`
    (the requested one), `answer_model`, `tags` (a list), `ttl` (seconds) and `sources` (an object of versions). Other
    keys are ignored, and so are blank lines. It may be gzipped; `-` is stdin. A question that is there gets the new
    answer.

    A line that is wrong is told by its number and costs the others nothing. It may be repeated.

    \b
    Exit codes: 0 all were stored; 65 some were not; the others as for every command.
    """
    sums = _Sums()
    terms = Terms(namespace, tags, ttl, answer_model)

    async def body(connection: Connection) -> None:
        with Input(file, again=False) as given:
            await _stored(connection, given, terms, sums, dry_run=dry_run)

    try:
        run(body, CACHE, role=OPERATOR, done=lambda: str(sums) if sums.stored and not dry_run else "")
    except (OSError, UnreadableError) as error:
        complain(f"FILE cannot be read: {error}")
        click.echo(f"  until then {sums}", err=True)
        sys.exit(exits.DATA)
    if as_json_:
        found = {"stored": sums.stored, "dry_run": dry_run, "problems": sums.problems}
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        click.echo(f"would have {sums}" if dry_run else str(sums))
    for problem in sums.problems[:SHOWN_PROBLEMS]:
        click.echo(f"  {problem}", err=True)
    if len(sums.problems) > SHOWN_PROBLEMS:
        click.echo(f"  and {len(sums.problems) - SHOWN_PROBLEMS:,} more", err=True)
    sys.exit(exits.DATA if sums.problems else 0)


async def _stored(connection: Connection, given: Input, terms: Terms, sums: _Sums, *, dry_run: bool) -> None:
    lines = given.lines()
    async with connection.cache() as client:
        with progress.shown("warm", given.size, bar=progress.bar_wanted()) as update:
            while batch := list(islice(lines, BATCH)):
                requests: list[tuple[int, cache_pb2.PutRequest]] = []
                for number, raw in batch:
                    try:
                        requests.append((number, read_pair(raw, terms)))
                    except WrongLineError as error:
                        sums.problems.append(f"line {number}: {error}")
                if dry_run:
                    sums.stored += len(requests)
                else:
                    await _put_all(client, requests, sums)
                update(given.place, f"{sums.stored:,} entries")


async def _put_all(client: AsyncCacheClient, requests: Sequence[tuple[int, cache_pb2.PutRequest]], sums: _Sums) -> None:
    """Store a batch. Raises what keeps every other from being stored, too."""
    puts = [client.put(request, timeout=TIMEOUT) for _, request in requests]
    stopped: AntiphonError | None = None
    for (number, _), outcome in zip(requests, await asyncio.gather(*puts, return_exceptions=True), strict=True):
        if isinstance(outcome, UnavailableError | UnauthenticatedError | PermissionDeniedError):
            stopped = stopped or outcome
        elif isinstance(outcome, AntiphonError):
            sums.problems.append(f"line {number}: {outcome.message} ({outcome.reason or outcome.code.name})")
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            sums.stored += 1
    if stopped is not None:
        raise stopped
