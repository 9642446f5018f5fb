"""`antiphon feedback`: say whether an answer was right."""

from __future__ import annotations

import json

import click
from google.protobuf.timestamp_pb2 import Timestamp

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.calls import CLIENT, OPERATOR, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.show import as_json
from antiphon_client.cli.targets import CACHE, COMPLETION

SOURCES = {
    "user": cache_pb2.FEEDBACK_SOURCE_USER,
    "judge": cache_pb2.FEEDBACK_SOURCE_JUDGE,
    "audit": cache_pb2.FEEDBACK_SOURCE_AUDIT,
    "operator": cache_pb2.FEEDBACK_SOURCE_OPERATOR,
}


@click.command()
@click.argument("verdict", type=click.Choice(["right", "wrong"]))
@click.option("--completion", default="", metavar="ID", help="The answer's completion_id, as `ask --json` shows it.")
@click.option("--entry", default="", metavar="ID", help="An entry of the cache, as `entries` and `explain` show it.")
@click.option(
    "--created",
    default="",
    metavar="TIME",
    help="With --entry: the answer's create_time, as `entries --json` shows it. A newer answer is left alone then.",
)
@click.option("--source", type=click.Choice(list(SOURCES)), help="Who says so. Default: user, with --entry operator.")
@click.option("--user", default="", help="Tells people apart who share a key.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
def feedback(
    *, verdict: str, completion: str, entry: str, created: str, source: str | None, user: str, as_json_: bool
) -> None:
    """Say whether an answer was right or wrong. What is wrong is not served any more.

    Of an operator, a judge model or an audit one `wrong` is enough, of users it takes several; an operator's `right`
    serves the entry again.
    """
    if bool(completion) == bool(entry):
        raise click.UsageError("give either --completion or --entry")
    if created and not entry:
        raise click.UsageError("--created goes with --entry; a completion is one answer only")
    right, made = verdict == "right", _timestamp(created) if created else None

    async def on_completion(connection: Connection) -> None:
        async with connection.completion() as client:
            response = await client.submit_feedback(
                completion, right=right, user=user, source=SOURCES[source or "user"]
            )
        if as_json_:
            click.echo(json.dumps(as_json(response)))
        else:
            click.echo(_recorded(response.recorded))

    async def on_entry(connection: Connection) -> None:
        request = cache_pb2.FeedbackRequest(
            entry_id=entry,
            verdict=cache_pb2.VERDICT_RIGHT if right else cache_pb2.VERDICT_WRONG,
            source=SOURCES[source or "operator"],
            user=user,
            answer_create_time=made,
        )
        async with connection.cache() as client:
            response = await client.feedback(request)
        if as_json_:
            click.echo(json.dumps(as_json(response)))
            return
        held = f"; {quarantined(response.quarantine)}" if response.HasField("quarantine") else "; it is served"
        click.echo(_recorded(response.recorded) + held)

    if completion:
        run(on_completion, COMPLETION, role=CLIENT if source in {None, "user"} else OPERATOR)
    else:
        run(on_entry, CACHE, role=OPERATOR)


def quarantined(quarantine: cache_pb2.Quarantine) -> str:
    """Say how far an entry is quarantined, and by which rule."""
    return f"quarantined by {quarantine.rule}" + ("" if quarantine.whole else ", but for its own question")


def _timestamp(said: str) -> Timestamp:
    made = Timestamp()
    try:
        made.FromJsonString(said)
    except ValueError:
        raise click.BadParameter("must be a time such as 2026-01-31T12:00:00.5Z", param_hint="--created") from None
    return made


def _recorded(recorded: bool) -> str:
    return "recorded" if recorded else "known before"
