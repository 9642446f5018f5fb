"""Sentences for the bench are whole and in the same order every time, and the queries are what they are said to be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.bench.simcore import sentences

MODULE = b'''
"""A module of two sentences.  This one goes on
in a second line.

    >>> example() is no sentence for anybody.

Too short.
A heading without an end of its own
-----------------------------------
"""

def documented():
    "What a function does is told here!"

class Undocumented:
    async def inner(self):
        "Is anything said of an inner one?"
'''
TEXTS = [f"sentence number {number} says something about {number * 7}" for number in range(100)]


def test_sentences_of_a_module_are_whole() -> None:
    assert list(sentences.of_source(MODULE)) == [
        "A module of two sentences.",
        "This one goes on in a second line.",
        "What a function does is told here!",
        "Is anything said of an inner one?",
    ]


@pytest.mark.parametrize("source", [b"def broken(:", b"'\xff'", b"\0"])
def test_what_is_not_for_this_python_has_none(source: bytes) -> None:
    assert list(sentences.of_source(source)) == []


@pytest.mark.parametrize(("words", "taken"), [(3, False), (4, True), (40, True), (41, False)])
def test_sentences_have_four_to_forty_words(words: int, taken: bool) -> None:
    assert bool(list(sentences.of_docstring(" ".join(["word"] * words) + "."))) is taken


def test_tests_and_other_environments_are_left_out(tmp_path: Path) -> None:
    for folder in ("package", "package/tests", "site-packages/other"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").write_text(f'"""This is the module of {folder}."""')
    assert list(sentences.of_folders([tmp_path])) == ["This is the module of package."]


def test_files_hold_lines_or_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text('a line\n\n{"text": "an object", "more": 1}\n')
    assert list(sentences.of_file(file)) == ["a line", "an object"]


def test_a_sample_does_not_depend_on_the_order_and_has_no_text_twice() -> None:
    backwards = [*reversed(TEXTS), *TEXTS]
    assert sentences.sample(backwards, 20) == sentences.sample(TEXTS, 20)
    assert sorted(sentences.sample(backwards)) == sorted(TEXTS)


def test_an_edit_drops_replaces_or_swaps_one_word() -> None:
    own = ["the", "quick", "brown", "fox"]
    rng = random.Random(1)
    seen = set()
    for _ in range(200):
        changed = sentences.edited(" ".join(own), ["new"], rng).split()
        if len(changed) < len(own):
            seen.add("drop")
            assert any(changed == own[:at] + own[at + 1 :] for at in range(len(own)))
        elif sorted(changed) == sorted(own):
            seen.add("swap")
            assert sum(a != b for a, b in zip(own, changed, strict=True)) == 2
        else:
            seen.add("replace")
            assert [a for a, b in zip(changed, own, strict=True) if a != b] == ["new"]
    assert seen == {"drop", "replace", "swap"}


def test_an_edit_always_changes_something() -> None:
    rng = random.Random(1)
    assert {sentences.edited("same same", ["same"], rng) for _ in range(20)} == {"same"}


def test_queries_are_held_out_edited_and_stored_texts() -> None:
    made = sentences.split(TEXTS, 40, seed=1)
    assert made == sentences.split(TEXTS, 40, seed=1)
    assert made.stored == TEXTS[20:]
    by_kind = [{text for text, kind in zip(made.queries, made.kind, strict=True) if kind == own} for own in range(3)]
    assert by_kind[0] == set(TEXTS[:20])
    assert len(by_kind[1]) == 10
    assert by_kind[1].isdisjoint(TEXTS)
    assert len(by_kind[2]) == 10
    assert by_kind[2] <= set(made.stored)


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        sentences.split(TEXTS, 51, seed=1)
