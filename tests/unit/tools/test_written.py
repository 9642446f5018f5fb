"""The pairs that the verifier is fitted on beside the public sets: in form, and none of those that judge it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools.decision import written

JUDGING = Path(__file__).parents[2] / "quality" / "cache"


def bare(text: str) -> str:
    """The words alone."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def test_no_text_is_one_that_the_decision_is_judged_by() -> None:
    judging = {
        bare(json.loads(line)[side])
        for file in JUDGING.rglob("*.jsonl")
        for line in file.read_text("utf-8").splitlines()
        for side in "ab"
    }
    made = written.pairs(1)
    assert len(judging) > 2_000
    assert not judging & {bare(text) for text in made.a + made.b}


def test_wordings_agree_and_others_do_not() -> None:
    made = written.pairs(1)
    assert len(made.a) == len(made.b) == len(made.label) == len(made.kind) > 8_000
    assert 0.2 < sum(made.label) / len(made.label) < 0.5
    lines = [json.loads(line) for line in written.FILE.read_text("utf-8").splitlines()]
    for a, b, label, kind in zip(made.a, made.b, made.label, made.kind, strict=True):
        line = lines[int(kind.rpartition("/")[2]) - 1]
        wordings = {line["q"], *line["same"]}
        assert label == (a in wordings and b in wordings)
        assert {a, b} <= wordings | set(line["other"])


def test_which_side_is_cached_is_drawn_alike_each_time() -> None:
    assert written.pairs(1) == written.pairs(1)
    assert written.pairs(1).a != written.pairs(2).a


def test_a_text_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "written.jsonl"
    file.write_text('{"kind": "typo", "q": "who am I", "same": ["who am i"], "other": ["who am I"]}\n', "utf-8")
    with pytest.raises(ValueError, match=r"written\.jsonl:1"):
        written.pairs(1, file)
