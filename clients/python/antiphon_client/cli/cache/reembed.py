"""`antiphon cache reembed`: change the cache's embedder while it serves."""

from __future__ import annotations

import asyncio
import json

import click

from antiphon.cache.v1 import reembedding_pb2 as pb
from antiphon_client.cache import AsyncCacheClient
from antiphon_client.cli import progress
from antiphon_client.cli.calls import OPERATOR, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.finite import FiniteRange
from antiphon_client.cli.show import as_json
from antiphon_client.cli.targets import CACHE
from antiphon_client.errors import AntiphonError, FailedPreconditionError, UnavailableError

LOOK_SECONDS = 0.5
"""Between two looks at how far it is."""

PATIENCE = 60
"""Looks in a row that may fail, as while the server restarts."""

SETTLING_SECONDS = 120.0
"""In which a server may refuse to drop what replicas may still use."""


@click.command()
@click.option("--to", "embedder", default="", help="The embedder: `minilm`, `openai`, or a folder on the server.")
@click.option("--model", default="", help="Model of `openai`. Default: as the server has it.")
@click.option("--dim", type=click.IntRange(1), default=None, help="Length of the vectors of `openai`.")
@click.option(
    "--share",
    type=FiniteRange(0.001, 1.0),
    default=None,
    show_default="0.25",
    help="Of a core's time that embedding may take; also changes that of a change that is under way.",
)
@click.option("--drop-old", is_flag=True, help="Drop the collections that do not serve; there is no way back.")
@click.option("--cancel", is_flag=True, help="Give up the change that is under way; what was embedded is kept.")
@click.option("--status", is_flag=True, help="Only show how far it is.")
@click.option("--no-wait", is_flag=True, help="Begin, and do not wait for the end.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
def reembed(
    *,
    embedder: str,
    model: str,
    dim: int | None,
    share: float | None,
    drop_old: bool,
    cancel: bool,
    status: bool,
    no_wait: bool,
    as_json_: bool,
) -> None:
    """Embed every entry anew with another embedder, then let that one answer.

    The servers do it, in a collection of its own, and the old embedder answers until all is embedded. Ctrl-C ends this
    command and not the change; the same command shows it again. The old collection stays until --drop-old, which may be
    given at once or afterwards.
    """
    if bool(embedder) + cancel + status + (drop_old and not embedder) != 1:
        raise click.UsageError("give one of --to, --drop-old, --cancel, --status")
    if no_wait and drop_old:
        raise click.UsageError("--drop-old waits for the end: leave --no-wait out")

    awaited: pb.Reembedding | None = None

    async def body(connection: Connection) -> None:
        nonlocal awaited
        found = pb.GetReembeddingResponse()
        async with connection.cache() as client:
            if embedder:
                to = pb.EmbedderChoice(embedder=embedder, model=model, dim=dim or 0)
                begun = await client.start_reembedding(pb.StartReembeddingRequest(to=to, share=share or 0.0))
                change = begun.reembedding
                if not no_wait:
                    awaited = change
                    change = await _until_switched(client, change)
                    awaited = None
            elif cancel:
                change = (await client.cancel_reembedding(pb.CancelReembeddingRequest())).reembedding
            elif status:
                found = await client.get_reembedding(pb.GetReembeddingRequest())
                change = found.reembedding
            if drop_old and (not embedder or change.phase == pb.REEMBEDDING_PHASE_SWITCHED):
                change = await _dropped(client)
        if as_json_:
            about = as_json(found)
            about.pop("reembedding", None)
            click.echo(json.dumps(as_json(change) | about))
        else:
            _say(change, found)

    try:
        run(body, CACHE, role=OPERATOR)
    except KeyboardInterrupt:
        if awaited is not None:
            _say_it_goes_on(awaited)
        raise


async def _until_switched(client: AsyncCacheClient, change: pb.Reembedding) -> pb.Reembedding:
    """Show the progress until the new embedder answers, at least from the server that is asked."""
    target, failures = change.target.embedder, 0
    with progress.shown("embed", 1.0, bar=progress.bar_wanted()) as update:
        while True:
            try:
                found = await client.get_reembedding(pb.GetReembeddingRequest())
                failures = 0
            except UnavailableError:
                failures += 1
                if failures > PATIENCE:
                    raise
            else:
                change = found.reembedding
                update(change.done / change.total if change.total else 0.0, _state(change))
                if change.phase != pb.REEMBEDDING_PHASE_EMBEDDING and (
                    found.serving == target or change.phase != pb.REEMBEDDING_PHASE_SWITCHED
                ):
                    return change
            await asyncio.sleep(LOOK_SECONDS)


async def _dropped(client: AsyncCacheClient) -> pb.Reembedding:
    """Drop the old collection as soon as the servers allow it, and wait until it is gone."""
    loop = asyncio.get_running_loop()
    until = loop.time() + SETTLING_SECONDS
    with progress.shown("drop the old collection", None, bar=progress.bar_wanted()) as update:
        while True:
            try:
                change = (await client.drop_old_embeddings(pb.DropOldEmbeddingsRequest())).reembedding
                if change.phase == pb.REEMBEDDING_PHASE_DROPPED:
                    return change
                state = "replicas let go of it"
            except FailedPreconditionError as error:
                if not await _settling(client) or loop.time() > until:
                    raise
                state = error.message
            except AntiphonError:
                if loop.time() > until:
                    raise
                state = "the server does not answer"
            update(0.0, state)
            await asyncio.sleep(LOOK_SECONDS)


async def _settling(client: AsyncCacheClient) -> bool:
    found = await client.get_reembedding(pb.GetReembeddingRequest())
    return found.reembedding.phase == pb.REEMBEDDING_PHASE_SWITCHED


def _state(change: pb.Reembedding) -> str:
    if change.failing:
        return f"{change.done:,} of {change.total:,}; waits: {change.failing}"
    if change.phase == pb.REEMBEDDING_PHASE_SWITCHED:
        return "reads the new collection"
    return f"{change.done:,} of {change.total:,} entries" if change.total else "counts"


def _say_it_goes_on(change: pb.Reembedding) -> None:
    click.echo(
        f"the change to {_named(change.target)} goes on in the background: `antiphon cache reembed --status` shows how "
        "far it is, `antiphon cache reembed --cancel` gives it up until the new embedder answers",
        err=True,
    )


def _say(change: pb.Reembedding, found: pb.GetReembeddingResponse) -> None:
    """Print where a change stands, and what the server that was asked has `found`, if it was."""
    if not change.HasField("start_time"):
        click.echo("the embedder was never changed")
        if found.serving:
            click.echo(f"  {found.serving} answers")
        return
    ways = f"{_named(change.source)} → {_named(change.target)}"
    phase = pb.ReembeddingPhase.Name(change.phase).removeprefix("REEMBEDDING_PHASE_").lower()
    click.echo(f"{ways}: {phase}, {_state(change) if phase == 'embedding' else f'{change.done:,} entries'}")
    _say_who_serves(change, found)
    if change.skipped:
        click.echo(f"  {change.skipped:,} of an early version stay behind: it is not known how they were asked")
    if change.unembedded:
        click.echo(f"  {change.unembedded:,} could not be embedded: only their own words find them")
    if change.cancelled:
        click.echo(f"  it was cancelled: {_named(change.source)} answers")
    elif change.phase in {
        pb.REEMBEDDING_PHASE_SWITCHED,
        pb.REEMBEDDING_PHASE_DROPPING,
        pb.REEMBEDDING_PHASE_DROPPED,
    }:
        click.echo(f"  let the servers' settings name it: {_settings(change.target.choice)}")
    if change.phase == pb.REEMBEDDING_PHASE_SWITCHED:
        click.echo("  the old collection is kept: `antiphon cache reembed --drop-old` drops it")
    elif change.phase == pb.REEMBEDDING_PHASE_CANCELLED:
        click.echo("  what was embedded is kept: `antiphon cache reembed --drop-old` drops it")


def _say_who_serves(change: pb.Reembedding, found: pb.GetReembeddingResponse) -> None:
    if found.serving:
        ends = {end.embedder: _named(end) for end in (change.source, change.target)}
        click.echo(f"  {ends.get(found.serving, found.serving)} answers at the server that was asked")
    if found.problem:
        click.echo(f"  it does not look up by the embedder that serves: {found.problem}")
    if change.settling:
        click.echo("  settling for less than a minute: what replicas still store under the old one is brought over")
    if found.role == pb.REEMBEDDING_ROLE_WAITS and not change.settling:
        click.echo("  another replica has the lease for the work; if it is gone, this one goes on within 15 s")
    elif found.role == pb.REEMBEDDING_ROLE_PAUSES:
        click.echo("  this server could not go on, and tries again; its log says why")


def _named(end: pb.EmbedderEnd) -> str:
    return end.choice.model or end.choice.embedder


def _settings(choice: pb.EmbedderChoice) -> str:
    said = [f"ANTIPHON_EMBEDDING_EMBEDDER={choice.embedder}"]
    if choice.model:
        said.append(f"ANTIPHON_EMBEDDING_OPENAI_MODEL={choice.model}")
    said += [f"ANTIPHON_EMBEDDING_DIM={choice.dim}"] if choice.dim else []
    return " ".join(said)
