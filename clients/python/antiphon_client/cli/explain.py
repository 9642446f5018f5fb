"""`antiphon explain`: what the cache would do with a question, and why."""

from __future__ import annotations

import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from antiphon.cache.v1 import cache_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client.cli.calls import OPERATOR, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.feedback import quarantined
from antiphon_client.cli.finite import FiniteRange
from antiphon_client.cli.printable import escaped, json_line
from antiphon_client.cli.show import Row, as_json, console, outcome, seconds, table
from antiphon_client.cli.targets import CACHE

MOST_PROMPT = 120
"""Characters of a stored question in the table."""

RULES = {
    "exact": "the question itself is stored",
    "verifier": "cosine and the verifier's score",
    "guard": "cosine and the guard's findings; no verifier is fitted to this embedder",
    "empty": "there is nothing to compare with in this scope",
    "policy": "the policy does not read",
    "exact_only": "only its own words may find an answer to this question",
    "uncalibrated": "no verifier is fitted that could keep an error rate",
    "max_error_rate": "no threshold keeps this error rate",
    "bypass": "a part of the cache is not there",
}


@click.command()
@click.argument("question")
@click.option("--namespace", default="", help="The namespace. Default: `default`.")
@click.option("--model", default="", help="The model that is asked for. Default: the router's choice.")
@click.option("--system", default="", help="A system message before the question.")
@click.option("--min-similarity", type=FiniteRange(0, 1), help="Ask for this cosine at least.")
@click.option("--max-error-rate", type=FiniteRange(0, 1), help="Allow this share of wrong hits at most.")
@click.option("--limit", type=click.IntRange(1, 50), default=4, show_default=True, help="Candidates to show.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
def explain(
    question: str,
    *,
    namespace: str,
    model: str,
    system: str,
    min_similarity: float | None,
    max_error_rate: float | None,
    limit: int,
    as_json_: bool,
) -> None:
    """Show what the cache would serve to QUESTION now, and why; nothing is changed or counted."""
    told = ((llm_pb2.ROLE_SYSTEM, system), (llm_pb2.ROLE_USER, question))
    messages = [llm_pb2.Message(role=role, parts=[llm_pb2.ContentPart(text=text)]) for role, text in told if text]
    request = cache_pb2.ExplainRequest(
        query=cache_pb2.Query(namespace=namespace, model=model, messages=messages),
        policy=cache_pb2.CachePolicy(min_similarity=min_similarity, max_error_rate=max_error_rate),
        limit=limit,
    )

    async def body(connection: Connection) -> None:
        async with connection.cache() as client:
            response = await client.explain(request)
        if as_json_:
            click.echo(json_line(as_json(response)))
        else:
            console().print(view(response))

    run(body, CACHE, role=OPERATOR)


def view(response: cache_pb2.ExplainResponse) -> RenderableType:
    """Lay an explanation out for a person."""
    parts: list[RenderableType] = [table(_rows(response))]
    if response.candidates:
        parts += [Text(), _candidates(response)]
    return Group(*parts)


def _rows(response: cache_pb2.ExplainResponse) -> list[Row]:
    decision, scope = response.decision, response.scope
    rows = [("would be", outcome(response.outcome)), ("rule", RULES.get(response.rule, response.rule))]
    if response.entry_id:
        rows.append(("serves", response.entry_id))
    if response.bypass_reason:
        rows.append(("bypassed", response.bypass_reason))
    if decision.veto_reasons:
        rows.append(("not served", ", ".join(decision.veto_reasons)))
    if response.HasField("quarantine"):
        rows.append(("its own", quarantined(response.quarantine)))
    if asked := _asked(response):
        rows.append(("asks for", asked))
    return [
        *rows,
        ("decided by", decision.decision_version),
        ("scope", f"{scope.namespace}, model {scope.model}, {scope.embedder} ({scope.hash})"),
        ("in scope", f"{scope.comparable_entries:,} comparable"),
    ]


def _asked(of: cache_pb2.ExplainResponse | cache_pb2.Decision) -> str:
    """What has to be reached; empty if nothing is compared."""
    if not of.HasField("threshold"):
        return ""
    score = f", score {of.score_threshold:.3f}" if of.HasField("score_threshold") else ""
    return f"cosine {of.threshold:.3f}{score}"


def _candidates(response: cache_pb2.ExplainResponse) -> Table:
    laid_out = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "cosine", "score", "p wrong", "age"):
        laid_out.add_column(name, no_wrap=True, justify="right" if name else "left")
    laid_out.add_column("question, and what it differs in", overflow="fold")
    for candidate in response.candidates:
        decision = candidate.decision
        said = Text(escaped(_short(candidate.prompt)))
        said.append(f"\n{escaped(candidate.entry_id)}", style="dim")
        if decision.veto_reasons:
            said.append(f"\n{', '.join(decision.veto_reasons)}", style="yellow")
        if (own := _asked(decision)) and own != _asked(response):
            said.append(f"\nit has to reach {own}, by its own record", style="yellow")
        if candidate.HasField("quarantine"):
            said.append(f"\n{quarantined(candidate.quarantine)}", style="yellow")
        if candidate.features:
            counted = (f"{name} {value:.3g}" for name, value in sorted(candidate.features.items()))
            said.append(f"\n{' · '.join(counted)}", style="dim")
        laid_out.add_row(
            Text("→" if candidate.entry_id == response.entry_id else ""),
            f"{decision.similarity:.3f}",
            f"{decision.score:.3f}" if decision.HasField("score") else "–",
            f"{decision.p_wrong:.3f}" if decision.HasField("p_wrong") else "–",
            seconds(decision.age.ToMicroseconds() / 1e6),
            said,
        )
    return laid_out


def _short(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= MOST_PROMPT else f"{line[: MOST_PROMPT - 1]}…"
