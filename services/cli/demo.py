"""What `antiphon up --demo` shows: a miss, an exact hit, a reworded hit, and a hard question for the larger model."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client import AntiphonError, AsyncCompletionClient
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.show import summary

EASY = "How do I reset my password?"
REWORDED = "How can I reset my password?"
HARD = (
    "Design a multi-region, strongly consistent payment ledger: compare two-phase commit, sagas and Raft-based "
    "replication, prove that money is never lost or doubled when a region fails in the middle of a transfer, and "
    "derive the latency and cost of each choice. Then write the schema and the recovery procedure step by step."
)


@dataclass(frozen=True, slots=True)
class Step:
    """One question and how its lookup must end."""

    title: str
    prompt: str
    stream: bool
    outcome: cache_pb2.Outcome.ValueType


STEPS = (
    Step("A new question, streamed", EASY, True, cache_pb2.OUTCOME_MISS),
    Step("The same question again", EASY, True, cache_pb2.OUTCOME_EXACT),
    Step("The same question in other words", REWORDED, False, cache_pb2.OUTCOME_SEMANTIC),
    Step("A hard question", HARD, False, cache_pb2.OUTCOME_MISS),
)


async def _ask(
    client: AsyncCompletionClient, request: completion_pb2.CompleteRequest, *, stream: bool
) -> completion_pb2.CompletionInfo:
    if not stream:
        response = await client.complete(request)
        click.echo(f"  {response.answer.text}")
        return response.info
    info = completion_pb2.CompletionInfo()
    click.echo("  ", nl=False)
    async with client.stream(request) as events:
        async for event in events:
            if event.HasField("delta"):
                click.echo(event.delta.text, nl=False)
            elif event.HasField("finished"):
                info = event.finished.info
    click.echo()
    return info


async def show(connection: Connection) -> bool:
    """Ask the questions of `STEPS` in a namespace of this run; True if each ended as it must."""
    namespace = f"demo-{time.time_ns():x}"
    good = True
    async with connection.completion() as client:
        for step in STEPS:
            click.secho(f"\n{step.title}: {step.prompt}", bold=True)
            request = completion_pb2.CompleteRequest(prompt=step.prompt, namespace=namespace)
            try:
                info = await _ask(client, request, stream=step.stream)
            except AntiphonError as error:
                click.secho(f"  failed: {error}", fg="red")
                return False
            click.secho(f"  {summary(info)}", fg="cyan")
            good &= info.cache.outcome == step.outcome
    click.echo()
    if not good:
        click.secho("the outcomes above are not the expected ones", fg="red")
    return good
