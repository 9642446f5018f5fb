"""What `antiphon entries` and `antiphon explain` show fits a terminal, and ids can be copied from it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli import entries, explain

ENTRY_ID = "082d7d40-0fec-51f0-86fc-32c768af9d16"


def shown(what: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(width=width, file=out).print(what)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("namespace", ["one", "demo-18ec24812754b09c" * 4])
def test_an_entrys_question_and_id_are_whole_in_every_width(namespace: str, width: int) -> None:
    entry = cache_pb2.Entry(
        entry_id=ENTRY_ID, namespace=namespace, prompt="How do I?", model="a-model-with-a-long-name", source="fill"
    )
    entry.expire_time.FromSeconds(2_000_000_000)
    entry.create_time.FromSeconds(1_000_000_000)
    said = shown(entries.view([entry], now=1_000_000_100.0, width=width), width)
    assert ENTRY_ID in said
    assert "How do I?" in said
    assert all(len(line) <= width for line in said.splitlines())


def test_an_explanation_names_its_candidates_and_what_each_has_to_reach() -> None:
    response = cache_pb2.ExplainResponse(threshold=0.82, score_threshold=0.88)
    for threshold in (0.82, 0.86):
        candidate = response.candidates.add(entry_id=ENTRY_ID, prompt="How do I?")
        candidate.decision.threshold, candidate.decision.score_threshold = threshold, 0.88
    said = " ".join(shown(explain.view(response), 80).split())
    assert said.count(ENTRY_ID) == 2
    assert said.count("it has to reach cosine 0.860, score 0.880") == 1
