"""How answers, money and counts look in a terminal and as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message as ProtoMessage
from rich.console import Console
from rich.table import Table
from rich.text import Text

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client.cli.printable import escaped

NANO_PER_USD = 1_000_000_000

PLAIN_WIDTH = 200
"""Columns where there is no terminal: nothing is folded for a program that reads lines."""

Row = tuple[str, str]
"""A name and what is said about it."""


def as_json(message: ProtoMessage) -> dict[str, Any]:
    """Return the message as a JSON object with the names of the proto."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def console() -> Console:
    """Return stdout as a place for tables; `NO_COLOR` and `TERM=dumb` are heeded."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=PLAIN_WIDTH)


def terminal(place: Console) -> bool:
    """Whether something can be drawn anew there, and nobody asked for plain output (`NO_COLOR`)."""
    return place.is_terminal and not place.is_dumb_terminal and not os.environ.get("NO_COLOR")


def table(rows: Iterable[tuple[str, ...]]) -> Table:
    """Lay rows out in columns, their names first."""
    laid_out = Table(show_header=False, box=None, pad_edge=False)
    laid_out.add_column(style="dim", no_wrap=True)
    laid_out.add_column(overflow="fold")
    for row in rows:
        # As text: what a service says may look like markup.
        laid_out.add_row(*(Text(escaped(cell)) for cell in row))
    return laid_out


def money(nano_usd: int) -> str:
    """Show nano-USD without losing a digit: `$0.000123456`, trailing zeros cut."""
    sign = "-" if nano_usd < 0 else ""
    whole, rest = divmod(abs(nano_usd), NANO_PER_USD)
    digits = f"{rest:09d}".rstrip("0")
    return f"{sign}${whole}.{digits}" if digits else f"{sign}${whole}"


def seconds(value: float) -> str:
    """Show a duration by its largest unit: `12 s`, `3.4 h`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} s"


def outcome(value: cache_pb2.Outcome.ValueType) -> str:
    """Show how a lookup ended, without the enum's prefix."""
    try:
        return cache_pb2.Outcome.Name(value).removeprefix("OUTCOME_")
    except ValueError:  # of a newer server
        return str(int(value))


def summary(info: completion_pb2.CompletionInfo) -> str:
    """One line about an answer: outcome, similarity, model, cost, what was saved, latency, degraded parts."""
    decision = info.cache.decision
    similar = f" {decision.similarity:.3f}" if info.cache.outcome == cache_pb2.OUTCOME_SEMANTIC else ""
    parts = [f"{outcome(info.cache.outcome)}{similar}", info.model, money(info.cost.nano_usd)]
    if info.HasField("served_from"):
        parts.append(f"saved {money(info.served_from.cost_saved.nano_usd)}")
    parts.append(f"{info.latency.ToMicroseconds() / 1e3:.1f} ms")
    if info.finish_reason not in {llm_pb2.FINISH_REASON_STOP, llm_pb2.FINISH_REASON_TOOL_CALLS}:
        reason = llm_pb2.FinishReason.Name(info.finish_reason).removeprefix("FINISH_REASON_").lower()
        parts.append(f"incomplete: {reason}")
    if info.degraded:
        parts.append("degraded: " + ", ".join(info.degraded))
    return " · ".join(parts)
