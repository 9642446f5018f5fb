"""Tokenizing is whole, bounded and literal."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from services.chassis.errors import FailedPrecondition, InvalidRequest, Reason
from services.embedding.pieces import EXACT_CHARACTERS, Pieces, well_formed

WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "[": 5, "]": 6, "SEP": 7, "?": 8}


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["[CLS]", "[SEP]", "[UNK]"])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    # As published encoders ship theirs.
    made.enable_truncation(4)
    made.enable_padding(length=4)
    return made


def pieces(*, window: int = 8, max_windows: int = 3) -> Pieces:
    return Pieces(tokenizer(), window=window, max_windows=max_windows)


def test_a_text_that_fits_is_one_framed_window_without_padding() -> None:
    split = pieces().split("a b")
    assert split.windows == ((1, 3, 4, 2),)
    assert split.tokens == 2


def test_the_tokenizers_own_truncation_is_off() -> None:
    assert pieces(window=100).split("a " * 90).tokens == 90


def test_a_long_text_ends_with_its_end_in_framed_windows() -> None:
    split = pieces().split("a " * 9 + "b")
    assert all(window[0] == 1 and window[-1] == 2 and len(window) <= 8 for window in split.windows)
    assert split.windows[1][-2] == 4
    assert split.windows[-1][-2] == 4
    assert split.tokens == 10


def test_special_tokens_in_a_text_are_text() -> None:
    ids = pieces().split("[SEP]").windows[0]
    assert ids[1:-1].count(2) == 0


@pytest.mark.parametrize("text", ["", " ", "\x00", "\u200b", "\ud800", "a\udfff?", "👩‍👩‍👧", "ﷺ"])
def test_any_text_has_a_window(text: str) -> None:
    made = pieces()
    assert len(made.split(text).windows) == 1
    assert made.estimate(text) == 1


def test_lone_surrogates_are_replaced_and_nothing_else() -> None:
    assert well_formed("a\ud800b") == "a?b"
    assert well_formed("naïve 😀") == "naïve 😀"


@pytest.mark.fault(84)
def test_a_text_of_too_many_windows_is_refused_not_cut() -> None:
    made = pieces()
    assert made.split("a " * 18).tokens == 18
    for text in ("a " * 19, "x" * 100_000):
        with pytest.raises(InvalidRequest) as caught:
            made.split(text)
        assert caught.value.reason is Reason.CONTEXT_TOO_LONG
        assert text[:2] not in caught.value.message.split()


def test_the_estimate_is_exact_for_short_texts_and_close_for_long_ones() -> None:
    made = pieces(max_windows=100_000)
    assert [made.estimate("a " * count) for count in (6, 7, 12, 13)] == [1, 3, 3, 4]
    long = "a " * (EXACT_CHARACTERS * 10)
    assert made.estimate(long) == pytest.approx(len(long) / 2 / 6, rel=0.02)


def test_an_unreadable_tokenizer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(FailedPrecondition, match=r"tokenizer\.json"):
        Pieces.from_file(path, window=8, max_windows=1)


def test_a_window_without_room_for_text_is_refused() -> None:
    with pytest.raises(FailedPrecondition):
        pieces(window=2)
