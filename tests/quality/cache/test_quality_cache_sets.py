"""What must be true of the traps and paraphrases, whatever the cache decides about them."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

TRAPS = {
    "swapped_roles": 25,
    "time_reference": 25,
    "scope_word": 25,
    "one_sided_modifier": 25,
    "one_sided_direction": 25,
    "voice_or_pronoun": 25,
    "word_order": 25,
    "number_or_unit": 25,
    "date_or_version": 25,
    "negation_or_exception": 25,
    "antonym_or_comparative": 25,
    "entity": 25,
    "code_operator_or_argument": 25,
    "code_language_or_library": 25,
    "quantifier": 25,
    "question_type": 25,
    "audience_or_format": 25,
    "intent_shift": 25,
    "polarity_of_request": 25,
    "typo_that_is_another_word": 25,
    "other_language": 60,
    "attack": 25,
    "long_context_one_fact": 25,
    "long_context_other_question": 25,
}
"""The classes of traps, and how many pairs each has at least."""

PARAPHRASES = {
    "reworded": 15,
    "word_order": 15,
    "politeness_or_greeting": 15,
    "typo": 15,
    "abbreviation": 15,
    "number_format": 15,
    "contraction_or_case": 15,
    "synonym": 15,
    "active_passive": 15,
    "code_reworded": 15,
    "formatting": 15,
    "question_to_command": 15,
    "redundancy": 15,
    "unit_same_value": 15,
    "long_context_same": 15,
    "other_language": 40,
}
"""The classes of paraphrases, and how many pairs each has at least."""

DEVELOPMENT_TRAPS = {
    "time_reference": 20,
    "word_order": 15,
    "direction": 15,
    "quantifier": 15,
    "voice_or_pronoun": 15,
    "entity": 15,
    "code_operator_or_argument": 15,
    "modality_or_tense": 15,
    "one_sided_modifier": 10,
    "other_language": 30,
    "long_context_one_fact": 10,
}
DEVELOPMENT_PARAPHRASES = {
    "reworded": 10,
    "word_order": 10,
    "typo": 10,
    "abbreviation": 10,
    "number_format": 10,
    "synonym": 5,
    "active_passive": 10,
    "code_reworded": 15,
    "question_to_command": 5,
    "redundancy": 4,
    "other_language": 30,
    "long_context_same": 4,
}
"""The classes of the set that the decision is developed with."""

KEYS = ["id", "kind", "label", "a", "b"]
LONG = {"long_context_one_fact", "long_context_other_question", "long_context_same"}
SHORTEST, LONGEST = 80, 300
"""How many words a long prompt has."""


@dataclass(frozen=True)
class Pair:
    """One line: `a` is the cached question, `b` the one that arrives."""

    id: str
    kind: str
    label: int
    a: str
    b: str


@dataclass(frozen=True)
class PairSet:
    """One file, with what is demanded of it."""

    file: str
    prefix: str
    label: int
    least: int
    classes: dict[str, int]

    def lines(self) -> list[str]:
        text = (HERE / self.file).read_text(encoding="utf-8")
        assert text.endswith("\n")
        return text[:-1].split("\n")

    def pairs(self) -> list[Pair]:
        return [Pair(**json.loads(line)) for line in self.lines()]


SETS = [
    PairSet("traps.jsonl", "t", 0, 660, TRAPS),
    PairSet("paraphrases.jsonl", "p", 1, 340, PARAPHRASES),
    PairSet("development/traps.jsonl", "dt", 0, 200, DEVELOPMENT_TRAPS),
    PairSet("development/paraphrases.jsonl", "dp", 1, 100, DEVELOPMENT_PARAPHRASES),
]

each_set = pytest.mark.parametrize("pair_set", SETS, ids=lambda pair_set: pair_set.file)


def _all_pairs() -> list[Pair]:
    return [pair for pair_set in SETS for pair in pair_set.pairs()]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _shared_start(pair: Pair) -> int:
    """Return how many words both sides begin with."""
    both = zip(pair.a.split(), pair.b.split(), strict=False)
    return sum(1 for _ in takewhile(lambda words: words[0] == words[1], both))


@each_set
def test_every_line_is_an_object_with_these_keys_and_plain_utf_8(pair_set: PairSet) -> None:
    for line in pair_set.lines():
        row = json.loads(line)
        assert list(row) == KEYS, line
        assert json.dumps(row, ensure_ascii=False) == line
        assert all(isinstance(row[key], str) and row[key] == row[key].strip() != "" for key in KEYS if key != "label")
        assert row["label"] is not True and row["label"] is not False


@each_set
def test_the_label_is_that_of_the_file(pair_set: PairSet) -> None:
    assert {pair.label for pair in pair_set.pairs()} == {pair_set.label}


@each_set
def test_ids_count_the_pairs_of_their_class(pair_set: PairSet) -> None:
    seen: Counter[str] = Counter()
    for pair in pair_set.pairs():
        seen[pair.kind] += 1
        assert pair.id == f"{pair_set.prefix}-{pair.kind}-{seen[pair.kind]:03d}"


@each_set
def test_there_are_enough_pairs_of_every_class(pair_set: PairSet) -> None:
    counts = Counter(pair.kind for pair in pair_set.pairs())
    assert set(counts) == set(pair_set.classes)
    assert {kind: n for kind, n in counts.items() if n < pair_set.classes[kind]} == {}
    assert counts.total() >= pair_set.least


@each_set
def test_the_readme_tells_the_counts(pair_set: PairSet) -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", readme, flags=re.MULTILINE)
    (told,) = [part for part in section if part.startswith(f"`{pair_set.file}`")]
    rows = {kind: int(n) for kind, n in re.findall(r"^\| `(\w+)` \| (\d+) \|", told, flags=re.MULTILINE)}
    counts = Counter(pair.kind for pair in pair_set.pairs())
    assert rows == dict(counts)
    assert told.startswith(f"`{pair_set.file}`: {counts.total()} pairs")


def test_both_sides_of_a_pair_differ() -> None:
    assert [pair.id for pair in _all_pairs() if pair.a == pair.b] == []
    assert [pair.id for pair in SETS[0].pairs() if _plain(pair.a) == _plain(pair.b)] == []


def test_no_pair_is_there_twice_in_either_order() -> None:
    counts = Counter(frozenset((_plain(pair.a), _plain(pair.b))) for pair in _all_pairs())
    assert [sorted(sides) for sides, n in counts.items() if n > 1] == []


def test_no_id_is_there_twice() -> None:
    counts = Counter(pair.id for pair in _all_pairs())
    assert [name for name, n in counts.items() if n > 1] == []


def test_long_prompts_are_long_and_share_their_context() -> None:
    for pair in _all_pairs():
        if pair.kind not in LONG:
            continue
        for side in (pair.a, pair.b):
            assert SHORTEST <= len(side.split()) <= LONGEST, pair.id
        if pair.kind != "long_context_one_fact":
            assert _shared_start(pair) >= SHORTEST * 3 // 4, pair.id


def test_other_languages_are_not_only_those_of_latin_script() -> None:
    for pair_set in SETS:
        texts = [pair.a + pair.b for pair in pair_set.pairs() if pair.kind == "other_language"]
        for script in ("[ぁ-ヿ]", "[一-鿿]", "[ऀ-ॿ]", "[؀-ۿ]", "[Ѐ-ӿ]"):
            assert sum(bool(re.search(script, text)) for text in texts) >= 2, script
