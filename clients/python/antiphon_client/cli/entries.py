"""`antiphon entries`: what the cache holds, and where it comes from."""

from __future__ import annotations

import time

import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.calls import OPERATOR, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.feedback import quarantined as held
from antiphon_client.cli.printable import escaped, json_line
from antiphon_client.cli.show import as_json, console, seconds
from antiphon_client.cli.targets import CACHE

PAGE = 1_000
ID_WIDTH = 36
NAMES = ("namespace", "by", "model")
SPAN_WIDTH = 7
"""Of a time such as `23.5 h`."""
LEAST_WIDTH = 4
"""Of a column that gives way."""
MOST_PROMPT = 80
"""Characters of a question in the table."""


@click.command()
@click.option("--namespace", default="", help="Only this namespace. Default: all.")
@click.option("--model", default="", help="Only answers that this model made.")
@click.option("--tag", default="", help="Only entries with this tag.")
@click.option("--writer", default="", metavar="KEY", help="Only what was written for the API key with this id.")
@click.option("--quarantined/--served", default=None, help="Only what is, or is not, quarantined. Default: both.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The most entries to show.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object a line, one for each entry.")
def entries(
    *, namespace: str, model: str, tag: str, writer: str, quarantined: bool | None, limit: int, as_json_: bool
) -> None:
    """List what the cache holds: question, writer, model, age, what is left of its time, and what was said about it."""

    async def body(connection: Connection) -> None:
        request = cache_pb2.ListEntriesRequest(
            namespace=namespace, model=model, tag=tag, writer=writer, quarantined=quarantined
        )
        found: list[cache_pb2.Entry] = []
        async with connection.cache() as client:
            while True:
                request.page_size = min(limit - len(found), PAGE)
                response = await client.list_entries(request)
                found += response.entries
                request.page_token = response.next_page_token
                if len(found) >= limit or not request.page_token:
                    break
        if as_json_:
            for entry in found:
                click.echo(json_line(as_json(entry)))
            return
        if not found:
            click.echo("nothing is stored that fits", err=True)
            return
        out = console()
        out.print(view(found, now=time.time(), width=out.width))
        if request.page_token:
            click.echo(f"the first {len(found):,}; --limit shows more", err=True)

    run(body, CACHE, role=OPERATOR)


def view(found: list[cache_pb2.Entry], *, now: float, width: int) -> Table:
    """Lay entries out for a person, in lines of `width` characters."""
    laid_out = Table(box=None, pad_edge=False, header_style="dim")
    rows = [(entry.namespace, f"{entry.source} {entry.writer}".rstrip(), entry.model) for entry in found]
    cells = [[escaped(cell) for cell in row] for row in rows]
    for name, most in zip(NAMES, _widths(cells, width), strict=True):
        laid_out.add_column(name, no_wrap=True, overflow="ellipsis", width=most)
    for name in ("age", "left"):
        laid_out.add_column(name, no_wrap=True, min_width=SPAN_WIDTH)
    # An id is copied from here, and what is asked is what entries are told apart by: neither gives way to the others.
    laid_out.add_column("question and entry", overflow="fold", min_width=ID_WIDTH)
    for entry, row in zip(found, cells, strict=True):
        laid_out.add_row(
            *map(Text, row),
            seconds(max(now - entry.create_time.ToMicroseconds() / 1e6, 0.0)),
            seconds(max(entry.expire_time.ToMicroseconds() / 1e6 - now, 0.0)),
            _about(entry),
        )
    return laid_out


def _widths(rows: list[list[str]], width: int) -> list[int]:
    """Of the first columns: what they need, or less where the line is too short; the widest gives way first."""
    wanted = [max(map(cell_len, column)) for column in zip(NAMES, *rows, strict=True)]
    room = width - ID_WIDTH - 2 * SPAN_WIDTH - 2 * (len(NAMES) + 3)
    while sum(wanted) > room and max(wanted) > LEAST_WIDTH:
        wanted[wanted.index(max(wanted))] -= 1
    return wanted


def _about(entry: cache_pb2.Entry) -> Text:
    line = " ".join(entry.prompt.split())
    tags = f" [{', '.join(entry.tags)}]" if entry.tags else ""
    about = Text(escaped((line if len(line) <= MOST_PROMPT else f"{line[: MOST_PROMPT - 1]}…") + tags))
    about.append(f"\n{escaped(entry.entry_id)}", style="dim")
    if entry.HasField("quarantine"):
        about.append(f"\n{held(entry.quarantine)}", style="yellow")
    if entry.feedback:
        said = (f"{_source(count.source)} {count.right}:{count.wrong}" for count in entry.feedback)
        about.append(f"\nright:wrong by {', '.join(said)}", style="dim")
    return about


def _source(number: cache_pb2.FeedbackSource.ValueType) -> str:
    try:
        return cache_pb2.FeedbackSource.Name(number).removeprefix("FEEDBACK_SOURCE_").lower()
    except ValueError:  # of a newer server
        return str(int(number))
