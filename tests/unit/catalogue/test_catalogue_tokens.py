"""A count of tokens comes with a bound that no byte-level tokenizer exceeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from services.catalogue.catalogue import Catalogue, CatalogueError
from services.catalogue.tokens import EXACT_CHARS, TokenCounter, TokenEstimate, estimate_text
from services.llm.values import GenerationOptions, ImagePart, Message, Role, TextPart, Tool, ToolCall

CATALOGUE = Catalogue.load(None, {})
MODEL = CATALOGUE.get("offline-small")
COUNTER = TokenCounter.for_catalogue(CATALOGUE)


def byte_level(training: list[str], vocab: int = 400) -> Tokenizer:
    """A byte-level BPE as GPT-2 and its kin have: every byte is in the vocabulary, merges come from the training."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(training, trainer)
    return tokenizer


TOKENIZER = byte_level(["the quick brown fox jumps over the lazy dog, then sleeps"] * 4)


def said(text: str, role: Role = Role.USER) -> Message:
    return Message(role, (TextPart(text),))


@given(st.text(max_size=300))
def test_no_text_has_more_tokens_than_the_bound(text: str) -> None:
    estimate = estimate_text(text)
    assert len(TOKENIZER.encode(text).ids) <= estimate.upper
    assert 0 <= estimate.expected <= estimate.upper


@pytest.mark.parametrize(
    ("text", "tokens", "within"),
    [
        # One token per word and sign: large vocabularies hold words as common as these whole.
        ("Hello, world!", 4, 2),
        ("How do I reset my password?", 7, 2),
        ("The quick brown fox jumps over the lazy dog.", 10, 3),
    ],
)
def test_the_expectation_is_near_for_short_english(text: str, tokens: int, within: int) -> None:
    assert abs(estimate_text(text).expected - tokens) <= within


def test_other_scripts_take_more_tokens_per_character() -> None:
    assert estimate_text("你好，世界" * 20).expected > estimate_text("hello" * 20).expected
    assert estimate_text("🎉" * 10).expected >= 10


def test_an_empty_text_has_no_tokens() -> None:
    assert estimate_text("") == TokenEstimate(0, 0, exact=True)


def test_everything_that_is_sent_counts() -> None:
    def count(*messages: Message, tools: tuple[Tool, ...] = (), options: GenerationOptions | None = None) -> int:
        return COUNTER.request(messages, tools, options).input(MODEL).expected

    base = count(said("hi"))
    assert count(said("hi"), said("hi")) > base
    assert count(said("hi" * 50)) > base
    assert count(Message(Role.USER, (TextPart("hi"),), name="Alice and Bob")) > base
    assert count(said("hi"), tools=(Tool("look", "Looks something up", {"type": "object"}),)) > base
    assert count(said("hi"), options=GenerationOptions(response_format={"type": "json_object"})) > base
    call = Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "look", '{"what": "a long argument"}'),))
    assert count(said("hi"), call) > count(said("hi"), Message(Role.ASSISTANT))


def test_pictures_have_a_bound_of_the_model() -> None:
    picture = Message(Role.USER, (TextPart("what is this?"), ImagePart("https://example.org/a.png")))
    without = COUNTER.request((said("what is this?"),)).input(MODEL)
    counted = COUNTER.request((picture,)).input(MODEL)
    assert counted.upper - without.upper == MODEL.image_tokens
    small = replace(MODEL, image_tokens=100)
    assert COUNTER.request((picture,)).input(small).upper - without.upper == 100
    assert COUNTER.request((picture,)).input(small).expected <= counted.expected


def test_a_prudent_number_lies_between_expectation_and_bound() -> None:
    assert TokenEstimate(100, 400).prudent == 150
    assert TokenEstimate(100, 120).prudent == 120
    assert TokenEstimate(3, 9).prudent == 5


@given(st.text(max_size=200), st.integers(0, 5))
@settings(max_examples=50)
def test_a_request_never_has_more_text_tokens_than_its_bound(text: str, n: int) -> None:
    messages = tuple(said(text) for _ in range(n))
    counted = COUNTER.request(messages).input(MODEL)
    assert sum(len(TOKENIZER.encode(text).ids) for _ in messages) <= counted.upper


@given(st.text(max_size=300), st.integers(1, 3), st.integers(-2, 2))
def test_what_fits_is_told_alike_from_lengths_and_from_a_count(text: str, n: int, off: int) -> None:
    asked = COUNTER.request(
        (said(text), *[said("And?", Role.TOOL)] * n, Message(Role.USER, (ImagePart("https://a/"),)))
    )
    expected = asked.input(MODEL).expected
    assert asked.fits(MODEL, expected + off) == (off >= 0)
    assert asked.fits(MODEL, 10**6)
    assert asked._most(MODEL) >= asked.input(MODEL).upper
    with_tools = COUNTER.request((said(text),), (Tool("t", "", {"type": "object"}),))
    assert not with_tools.fits(MODEL, with_tools.input(MODEL).expected - 1)


@pytest.fixture
def with_file(tmp_path: Path) -> Path:
    tokenizer = byte_level(["the quick brown fox"] * 3)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def configured(folder: Path) -> Catalogue:
    text = """
[models.own]
upstream = "offline"
context_tokens = 1000
max_output_tokens = 100
tokenizer = "tokenizer.json"
prices = { input = "1", output = "1", date = 2026-01-01 }
quality = { tier = "simple" }
"""
    return Catalogue.parse(text, {}, folder=folder)


def test_a_tokenizer_file_counts_exactly_without_cutting_or_padding(with_file: Path) -> None:
    catalogue = configured(with_file)
    counter = TokenCounter.for_catalogue(catalogue)
    text = "the quick brown fox ate something else entirely"
    reference = byte_level(["the quick brown fox"] * 3)
    counted = counter.text(text, catalogue.get("own"))
    assert counted == TokenEstimate(n := len(reference.encode(text).ids), n, exact=True)
    assert n > 4
    assert not counter.text(text, catalogue.get("offline-small")).exact


def test_a_special_token_spelled_out_is_text(with_file: Path) -> None:
    catalogue = configured(with_file)
    assert TokenCounter.for_catalogue(catalogue).text("<|end|>", catalogue.get("own")).expected > 1


def test_a_very_long_text_is_estimated(with_file: Path) -> None:
    catalogue = configured(with_file)
    counter = TokenCounter.for_catalogue(catalogue)
    assert counter.text("x" * EXACT_CHARS, catalogue.get("own")).exact
    assert not counter.text("x" * (EXACT_CHARS + 1), catalogue.get("own")).exact


def test_a_tokenizer_file_that_is_none_names_the_model(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"models\.own\.tokenizer"):
        TokenCounter.for_catalogue(configured(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CatalogueError, match=r"models\.own\.tokenizer"):
        TokenCounter.for_catalogue(configured(tmp_path))
