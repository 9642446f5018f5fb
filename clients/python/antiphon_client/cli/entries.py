"""`antiphon entries`: what the cache holds, and where it comes from."""

from __future__ import annotations

import time

import click
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
MIN_PROMPT = 20
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
        console().print(view(found, now=time.time()))
        if request.page_token:
            click.echo(f"the first {len(found):,}; --limit shows more", err=True)

    run(body, CACHE, role=OPERATOR)


def view(found: list[cache_pb2.Entry], *, now: float) -> Table:
    """Lay entries out for a person."""
    laid_out = Table(box=None, pad_edge=False, header_style="dim")
    # An id is copied from here, and what is asked is what entries are told apart by: neither gives way to the others.
    laid_out.add_column("entry", no_wrap=True, min_width=ID_WIDTH)
    for name in ("namespace", "by", "model", "age", "left"):
        laid_out.add_column(name, no_wrap=True, overflow="ellipsis")
    laid_out.add_column("question", overflow="fold", min_width=MIN_PROMPT)
    for entry in found:
        by = f"{entry.source} {entry.writer}".rstrip()
        laid_out.add_row(
            *(Text(escaped(cell)) for cell in (entry.entry_id, entry.namespace, by, entry.model)),
            seconds(max(now - entry.create_time.ToMicroseconds() / 1e6, 0.0)),
            seconds(max(entry.expire_time.ToMicroseconds() / 1e6 - now, 0.0)),
            _about(entry),
        )
    return laid_out


def _about(entry: cache_pb2.Entry) -> Text:
    line = " ".join(entry.prompt.split())
    tags = f" [{', '.join(entry.tags)}]" if entry.tags else ""
    about = Text(escaped((line if len(line) <= MOST_PROMPT else f"{line[: MOST_PROMPT - 1]}…") + tags))
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
