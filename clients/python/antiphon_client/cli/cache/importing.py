"""`antiphon cache import`: entries of an export, into this cache."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import click
from google.protobuf import json_format

from antiphon.cache.v1 import transfer_pb2
from antiphon_client.cli import exits, progress
from antiphon_client.cli.cache.files import Input, UnreadableError
from antiphon_client.cli.calls import OPERATOR, complain, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.finite import FiniteRange
from antiphon_client.cli.targets import CACHE

CALL_LINES = 1_000
"""Lines of one call: what it has stored is known, and shown, when it ends."""

MESSAGE_BYTES = 1024 * 1024
"""Of lines in one message, unless one alone has more."""

SHOWN_PROBLEMS = 20
"""Lines that are told one by one."""

INVALID = "invalid"
"""As the server counts a line that it cannot read."""


@dataclass(slots=True)
class Sums:
    """What became of all lines."""

    stored: int = 0
    unchanged: int = 0
    older: int = 0
    expired: int = 0
    embeddings_waiting: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    told: int | None = None
    """Entries by the end of the export; None: it has none."""

    def add(self, response: transfer_pb2.ImportResponse) -> None:
        """Add what one call has done."""
        self.stored += response.stored
        self.unchanged += response.unchanged
        self.older += response.older
        self.expired += response.expired
        self.embeddings_waiting += response.embeddings_waiting
        self.refused.update(response.refused)
        for one in response.problems:
            where = f"{one.field}: " if one.field else ""
            self.problems.append(f"line {one.line}: {where}{one.message}")

    def refuse(self, number: int, what: str) -> None:
        """Count a line that is not sent."""
        self.refused[INVALID] += 1
        self.problems.append(f"line {number}: {what}")

    @property
    def lines(self) -> int:
        """All of them."""
        return self.stored + self.unchanged + self.older + self.expired + self.refused.total()

    def __str__(self) -> str:
        parts = [
            (self.unchanged, "already there"),
            (self.older, "older than what is there"),
            (self.expired, "expired"),
            *((count, f"refused: {reason}") for reason, count in sorted(self.refused.items())),
        ]
        return ", ".join([f"{self.stored:,} stored", *(f"{count:,} {what}" for count, what in parts if count)])


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True))
@click.option(
    "--tag", "tags", multiple=True, help="Give every entry this tag, so that all can be found; may be repeated."
)
@click.option(
    "--strict", is_flag=True, help="All or nothing: check every line first, and store none if one is refused."
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
@click.option(
    "--timeout", type=FiniteRange(0, min_open=True), default=600.0, show_default=True, help="Seconds of one call."
)
def import_(file: str, *, tags: tuple[str, ...], strict: bool, dry_run: bool, as_json_: bool, timeout: float) -> None:
    """Store the entries of FILE, which `antiphon cache export` wrote; gzipped or not, `-` is stdin.

    Nothing lives longer than it would have, and a newer answer stays. A line that is wrong is told by its number and
    costs the others nothing. An import that broke off is simply repeated: what is there is not stored twice.

    \b
    Exit codes: 0 all lines were taken; 65 some were refused, or are missing; the others as for every command.
    """
    sums, stores = Sums(), False

    async def body(connection: Connection) -> None:
        nonlocal sums, stores
        with Input(file, again=strict and not dry_run) as given:
            for dry in [True, False] if strict and not dry_run else [dry_run]:
                sums, stores = Sums(), not dry
                options = transfer_pb2.ImportOptions(dry_run=dry, tags=tags)
                await _sent(connection, given, options, sums, timeout=timeout)
                if strict and sums.refused:
                    break

    try:
        run(body, CACHE, role=OPERATOR, done=lambda: str(sums) if stores and sums.lines else "")
    except (OSError, UnreadableError) as error:
        complain(f"FILE cannot be read: {error}")
        click.echo(f"  until then {sums}", err=True)
        sys.exit(exits.DATA)
    nothing = strict and bool(sums.refused)
    if as_json_:
        click.echo(json.dumps(_as_json(sums, stored=not (dry_run or nothing)), ensure_ascii=False))
    else:
        said = "nothing was stored; it would be: " if dry_run or nothing else ""
        click.echo(f"{said}{sums}")
        if sums.embeddings_waiting:
            click.echo(
                f"  {sums.embeddings_waiting:,} are embedded in the background; `antiphon stats` shows how many wait"
            )
    for problem in sums.problems[:SHOWN_PROBLEMS]:
        click.echo(f"  {problem}", err=True)
    if sums.refused.total() > SHOWN_PROBLEMS:
        click.echo(f"  and {sums.refused.total() - SHOWN_PROBLEMS:,} more", err=True)
    if sums.told is None:
        click.echo("  FILE has no end of an export: it was cut, or is no export", err=True)
    elif sums.told != sums.lines:
        click.echo(f"  FILE was written with {sums.told:,} entries, and has {sums.lines:,} lines", err=True)
    sys.exit(exits.DATA if sums.refused or sums.told != sums.lines else 0)


async def _sent(
    connection: Connection, given: Input, options: transfer_pb2.ImportOptions, sums: Sums, *, timeout: float
) -> None:
    """Send the whole file, call by call."""
    what = "check" if options.dry_run else "import"
    async with connection.cache() as client:
        with progress.shown(what, given.size, bar=progress.bar_wanted()) as update:
            for call in _calls(_read(given, sums)):
                sums.add(await client.import_(_messages(call, options), timeout=timeout))
                update(given.place, f"{sums.lines:,} lines")


def _read(given: Input, sums: Sums) -> Iterator[transfer_pb2.ImportLine]:
    """Yield the entries of the file; what is none is counted."""
    for number, raw in given.lines():
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            sums.refuse(number, "is not JSON")
            continue
        if not isinstance(found, dict):
            sums.refuse(number, "is not an object")
        elif "header" in found:
            continue
        elif "end" in found:
            sums.told = (sums.told or 0) + _told(found["end"])
        elif isinstance(found.get("question"), str) and isinstance(found.get("answer"), str):
            sums.refuse(number, "is a question and its answer, for `antiphon cache warm`, and no exported entry")
        else:
            try:
                entry = json_format.ParseDict(found, transfer_pb2.PortableEntry(), ignore_unknown_fields=True)
            except json_format.ParseError as error:
                sums.refuse(number, str(error))
            else:
                yield transfer_pb2.ImportLine(number=number, entry=entry)


def _calls(lines: Iterator[transfer_pb2.ImportLine]) -> Iterator[list[transfer_pb2.ImportLine]]:
    call: list[transfer_pb2.ImportLine] = []
    size = 0
    for line in lines:
        call.append(line)
        size += line.ByteSize()
        if len(call) == CALL_LINES or size >= 16 * MESSAGE_BYTES:
            yield call
            call, size = [], 0
    if call:
        yield call


def _messages(
    lines: list[transfer_pb2.ImportLine], options: transfer_pb2.ImportOptions
) -> Iterator[transfer_pb2.ImportRequest]:
    message = transfer_pb2.ImportRequest(options=options)
    size = 0
    for line in lines:
        if size and size + line.ByteSize() > MESSAGE_BYTES:
            yield message
            message, size = transfer_pb2.ImportRequest(), 0
        message.lines.append(line)
        size += line.ByteSize()
    yield message


def _as_json(sums: Sums, *, stored: bool) -> dict[str, object]:
    return {
        "done": stored,
        "stored": sums.stored,
        "unchanged": sums.unchanged,
        "older": sums.older,
        "expired": sums.expired,
        "refused": dict(sums.refused),
        "problems": sums.problems,
        "embeddings_waiting": sums.embeddings_waiting,
        "complete": sums.told == sums.lines,
    }


def _told(end: object) -> int:
    """Return how many entries an export's last line tells of; -1 if it does not."""
    count = end.get("entries", 0) if isinstance(end, dict) else -1
    try:
        return int(count)  # as text, as JSON has numbers of 64 bits
    except (TypeError, ValueError):
        return -1
