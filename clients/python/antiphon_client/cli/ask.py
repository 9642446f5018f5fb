"""`antiphon ask`: one question, one answer."""

from __future__ import annotations

import asyncio
import sys

import click

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client.cli import exits
from antiphon_client.cli.calls import BrokenOffError, complain, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.printable import json_line, printable
from antiphon_client.cli.show import as_json, summary
from antiphon_client.cli.targets import COMPLETION
from antiphon_client.completion import AsyncCompletionClient
from antiphon_client.errors import AntiphonError

STDIN = "-"


async def _stream(
    client: AsyncCompletionClient, request: completion_pb2.CompleteRequest, tokens_per_second: int | None
) -> completion_pb2.Finished:
    finished = completion_pb2.Finished()
    begun = False
    try:
        async with client.stream(request, replay_tokens_per_second=tokens_per_second) as events:
            async for event in events:
                match event.WhichOneof("event"):
                    case "delta":
                        click.echo(printable(event.delta.text), nl=False)
                        begun = True
                    case "finished":
                        finished = event.finished
    except AntiphonError as error:
        if not begun:
            raise
        click.echo()
        raise BrokenOffError(error.message, reason=error.reason, code=error.code) from error
    except asyncio.CancelledError:  # Ctrl-C
        click.echo()
        raise
    click.echo()
    return finished


def _stdin() -> str:
    """Return what stands there, without the line end that a shell adds."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        complain("what stands on stdin is not UTF-8")
        sys.exit(exits.DATA)


@click.command()
@click.argument("prompt")
@click.option("--stream", is_flag=True, help="Print the answer while it is written.")
@click.option(
    "--pace",
    type=click.IntRange(0, 10_000),
    metavar="N",
    help="With --stream: so many tokens per second of an answer that the cache has; 0: at once. Default: the server's.",
)
@click.option("--model", default="", help="This model instead of the router's choice.")
@click.option("--namespace", default="", help="The cache's namespace. Default: `default`.")
@click.option("--no-cache", is_flag=True, help="Neither read nor write the cache.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object: the answer and everything about it.")
def ask(
    prompt: str, *, stream: bool, pace: int | None, model: str, namespace: str, no_cache: bool, as_json_: bool
) -> None:
    """Ask PROMPT, `-` for what stands on stdin, and print the answer, then one line about it on stderr."""
    if stream and as_json_:
        raise click.UsageError("--stream and --json exclude each other")
    if pace is not None and not stream:
        raise click.UsageError("--pace goes with --stream")
    if prompt == STDIN:
        prompt = _stdin()
        if not prompt:
            raise click.UsageError("nothing stands on stdin")
    elif not prompt:
        raise click.UsageError("PROMPT is empty")
    mode = cache_pb2.CACHE_MODE_BYPASS if no_cache else cache_pb2.CACHE_MODE_DEFAULT
    request = completion_pb2.CompleteRequest(
        prompt=prompt, model=model, namespace=namespace, cache=cache_pb2.CachePolicy(mode=mode)
    )

    async def body(connection: Connection) -> None:
        async with connection.completion() as client:
            if stream:
                done = await _stream(client, request, pace)
                answer, info = done.answer, done.info
            else:
                response = await client.complete(request)
                if as_json_:
                    click.echo(json_line(as_json(response)))
                    return
                answer, info = response.answer, response.info
                click.echo(printable(answer.text))
        if answer.refusal:
            click.echo(printable(f"refused: {answer.refusal}", err=True), err=True)
        click.secho(printable(summary(info), err=True), err=True, dim=True)

    run(body, COMPLETION)
