"""Scope before similarity: what a question is, within what its answer may be shared, and what is never shared."""

from __future__ import annotations

import dataclasses
import hmac
import re
import sys
import unicodedata
import uuid
from typing import Never

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.cache.encoding import encode
from services.cache.question import normalise, read_question
from services.cache.referring import refers_back
from services.cache.scope import VERSION, Addresses, entry_id, verifier
from services.cache.values import Query
from services.llm.values import (
    GenerationOptions,
    ImagePart,
    Message,
    Role,
    TextPart,
    Tool,
    ToolCall,
)
from tests.unit.cache.cache_parts import KEY, TENANT, ask, user

ENTRY_IDS = uuid.UUID("6f1d7d3e-3a0f-5f0e-9a43-0b7a86f2f1c5")
LONGEST = 1_000
ADDRESSES = Addresses(KEY, embedder="known_1", longest=LONGEST)
SYSTEM = Message(Role.SYSTEM, (TextPart("Be brief."),))
BASE = ask("How do I reset my password?", SYSTEM)


def scope(query: Query, tenant: str = TENANT, addresses: Addresses = ADDRESSES) -> str:
    return addresses.of(tenant, query).scope


# --- the scope -------------------------------------------------------------------------------------------------------

OTHERS = {
    "namespace": dataclasses.replace(BASE, namespace="other"),
    "model": dataclasses.replace(BASE, model="small"),
    "objective": dataclasses.replace(BASE, objective="cheapest"),
    "system prompt": ask("How do I reset my password?", Message(Role.SYSTEM, (TextPart("Be long."),))),
    "no system prompt": ask("How do I reset my password?"),
    "role of a message": ask("How do I reset my password?", Message(Role.DEVELOPER, (TextPart("Be brief."),))),
    "earlier turn": ask("How do I reset my password?", SYSTEM, user("Hi")),
    "author": Query((SYSTEM, Message(Role.USER, (TextPart("How do I reset my password?"),), name="ann"))),
    "tool": dataclasses.replace(BASE, tools=(Tool("t"),)),
    "tool's description": dataclasses.replace(BASE, tools=(Tool("t", "does"),)),
    "tool's schema": dataclasses.replace(BASE, tools=(Tool("t", json_schema={"type": "object"}),)),
    "order of tools": dataclasses.replace(BASE, tools=(Tool("a"), Tool("b"))),
    "other order of tools": dataclasses.replace(BASE, tools=(Tool("b"), Tool("a"))),
    **{
        f"option {name}": dataclasses.replace(BASE, options=GenerationOptions(**{name: value}))
        for name, value in {
            "max_output_tokens": 5,
            "temperature": 0.5,
            "top_p": 0.5,
            "stop": ("x",),
            "seed": 5,
            "response_format": {"type": "json_object"},
            "tool_choice": "none",
            "parallel_tool_calls": False,
            "presence_penalty": 0.5,
            "frequency_penalty": 0.5,
            "reasoning_effort": "low",
            "logprobs": True,
            "top_logprobs": 2,
            "extra": {"top_k": 5},
        }.items()
    },
}


def test_every_option_is_tried() -> None:
    tried = {name.removeprefix("option ") for name in OTHERS if name.startswith("option ")}
    assert tried == {field.name for field in dataclasses.fields(GenerationOptions)}


def test_no_two_contexts_share_a_scope() -> None:
    scopes = {name: scope(query) for name, query in {"base": BASE, **OTHERS}.items()}
    assert len(set(scopes.values())) == len(scopes)


def test_tenant_embedder_and_key_divide_too() -> None:
    scopes = {
        scope(BASE),
        scope(BASE, tenant="other"),
        scope(BASE, addresses=Addresses(KEY, embedder="known_2", longest=LONGEST)),
        scope(BASE, addresses=Addresses(bytes(32), embedder="known_1", longest=LONGEST)),
    }
    assert len(scopes) == 4


def test_the_same_question_has_the_same_address_everywhere() -> None:
    again = Addresses(bytes(KEY), embedder="known_1", longest=LONGEST).of(TENANT, dataclasses.replace(BASE))
    assert again == ADDRESSES.of(TENANT, BASE)
    assert again.entry_id == entry_id(again.scope, again.key)


def test_only_the_last_message_is_left_out_of_the_scope() -> None:
    first, second = ADDRESSES.of(TENANT, BASE), ADDRESSES.of(TENANT, ask("Something else?", SYSTEM))
    assert first.scope == second.scope
    assert first.key != second.key


def test_hashes_are_keyed() -> None:
    assert (
        ADDRESSES.of(TENANT, BASE).key != Addresses(bytes(32), embedder="known_1", longest=LONGEST).of(TENANT, BASE).key
    )
    assert verifier(KEY) != verifier(bytes(32))
    assert KEY.hex() not in verifier(KEY)


CALL = Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "t", "{}"),))


@pytest.mark.parametrize(
    ("last", "other"),
    [
        (
            Message(Role.TOOL, (TextPart("42"),), tool_call_id="1"),
            Message(Role.TOOL, (TextPart("43"),), tool_call_id="1"),
        ),
        (Message(Role.ASSISTANT, (TextPart("So"),)), Message(Role.ASSISTANT, (TextPart("But"),))),
        (Message(Role.SYSTEM, (TextPart("a"),)), Message(Role.SYSTEM, (TextPart("b"),))),
        (
            Message(Role.USER, (TextPart("What is this?"), ImagePart("https://a/1"))),
            Message(Role.USER, (TextPart("What is this?"), ImagePart("https://a/2"))),
        ),
    ],
)
def test_what_is_no_question_in_words_is_exact_only_and_covers_all(last: Message, other: Message) -> None:
    address = ADDRESSES.of(TENANT, Query((user("Hi there, a question"), CALL, last)))
    assert not address.question.semantic
    assert address.entry_id != ADDRESSES.of(TENANT, Query((user("Hi there, a question"), CALL, other))).entry_id
    assert address.entry_id != ADDRESSES.of(TENANT, Query((user("Hi there, another"), CALL, last))).entry_id


def test_parts_are_not_their_concatenation() -> None:
    joined = Query((Message(Role.USER, (TextPart("a b"),)),))
    apart = Query((Message(Role.USER, (TextPart("a"), TextPart("b"))),))
    assert ADDRESSES.of(TENANT, joined).key != ADDRESSES.of(TENANT, apart).key


# --- the encoding ----------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def canonical(value: object) -> object:
    """The value with what is meant to be equal made equal, and what Python alone takes for equal told apart."""
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, float) and not value.is_integer():
        return ("float", value)
    if isinstance(value, (int, float)):
        return ("number", int(value))
    if isinstance(value, dict):
        return ("map", frozenset((key, canonical(inner)) for key, inner in value.items()))
    if isinstance(value, list):
        return ("list", *(canonical(inner) for inner in value))
    return value


@given(values, values)
def test_two_values_are_encoded_alike_only_if_they_are_equal(one: object, two: object) -> None:
    assert (encode(one) == encode(two)) == (canonical(one) == canonical(two))


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_text_cannot_move_between_messages(one: list[str], two: list[str]) -> None:
    assume(one != two)
    assert encode([user(text) for text in one]) != encode([user(text) for text in two])


def test_what_has_no_encoding_is_refused() -> None:
    with pytest.raises(TypeError):
        encode(object())


# --- the normal form -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_text", "normal"),
    [
        ("  hello \n", "hello"),
        ("hello   big\tworld", "hello big world"),
        ("cafe\u0301", "café"),
        ("a\r\nb", "a\nb"),
        ("if x:\n    y  =  1", "if x:\n    y  =  1"),
        ("what does `a  b` do?", "what does `a  b` do?"),
        ("a\rb  c", "a\rb  c"),
        ("one\u2028two  three", "one\u2028two  three"),
    ],
)
def test_the_normal_form(given_text: str, normal: str) -> None:
    assert normalise(given_text) == normal


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_case_and_punctuation_are_kept() -> None:
    assert len({normalise(text) for text in ("us", "US", "us?", "u s")}) == 4


# --- questions that lean on what was said before ---------------------------------------------------------------------

FOLLOW_UPS = [
    "yes",
    "No.",
    "continue",
    "and in French?",
    "why?",
    "Why is that?",
    "What about the second one?",
    "Can you make it shorter?",
    "Now do the same for Berlin",
    "und auf Deutsch?",
    "Kannst du das kürzer machen?",
    "もっと短くして",
    "Explique melhor",
    "3",
    "?",
    "👍",
    "Is it faster than the other one?",
]


@pytest.mark.parametrize("text", FOLLOW_UPS)
def test_a_follow_up_is_for_the_exact_tier_only(text: str) -> None:
    assert refers_back(text, has_earlier_turns=True)


@pytest.mark.parametrize(
    "text",
    [
        "How do I reset my password?",
        "What is the capital of France?",
        "Please write a haiku about the sea in autumn, in English, with a word for the colour of the evening sky.",
    ],
)
def test_a_question_that_stands_alone_may_be_reworded(text: str) -> None:
    assert not refers_back(text, has_earlier_turns=True)
    assert not refers_back(text, has_earlier_turns=False)


@pytest.mark.parametrize("text", ["yes", "Continue.", "ok thanks", "👍", "..."])
def test_a_bare_reply_never_stands_alone(text: str) -> None:
    assert refers_back(text, has_earlier_turns=False)


@pytest.mark.parametrize("text", ["Wie setze ich mein Passwort zurück?", "パスワードをリセットする方法は?"])
def test_other_languages_are_semantic_where_nothing_stands_before(text: str) -> None:
    assert not refers_back(text, has_earlier_turns=False)


def test_a_system_prompt_is_no_earlier_turn() -> None:
    assert read_question(ask("Is it raining?", SYSTEM).messages, longest=LONGEST).semantic
    assert not read_question(
        ask("Is it raining?", SYSTEM, user("Hi"), Message(Role.ASSISTANT)).messages, longest=LONGEST
    ).semantic


@given(st.text(), st.booleans())
def test_any_text_gets_a_verdict(text: str, earlier: bool) -> None:
    assert refers_back(text, has_earlier_turns=earlier) in {True, False}
    # Earlier turns can only make it stricter.
    assert refers_back(text, has_earlier_turns=True) >= refers_back(text, has_earlier_turns=False)


# --- what would take too long -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "marks",
    ["\u0301\u0316" * 500_000, "\u0345\u0301" * 500_000, "\u0f73" * 500_000],
    ids=["two classes", "falling classes", "marks that fall apart"],
)
def test_a_heap_of_marks_is_not_put_in_order(marks: str) -> None:
    # Putting these in order takes hours, during which nothing else runs.
    text = f"caf\u0065{marks} now"
    assert normalise(text) == text
    assert read_question(ask(text).messages, longest=len(text)).parts == (text,)


def test_marks_as_languages_write_them_are_put_in_order() -> None:
    assert normalise("e\u0301" * 100) == "\u00e9" * 100
    assert normalise("\u2500" * 100 + "e\u0301") == "\u2500" * 100 + "\u00e9"
    assert normalise("a" + "\u0301\u0316" * 15) == normalise("a" + "\u0316\u0301" * 15)


def test_every_mark_is_looked_at() -> None:
    marks = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(c)]
    assert all(not re.match(r"[\w\s\x00-\x7f]", mark) for mark in marks)


def test_a_question_that_cannot_be_stored_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> Never:
        raise AssertionError("was read")

    monkeypatch.setattr("services.cache.question.normalise", read)
    monkeypatch.setattr("services.cache.question.refers_back", read)
    text = " word" * (LONGEST // 5) + "."
    question = read_question(ask(text).messages, longest=LONGEST)
    assert question.parts == (text,)
    assert not question.semantic
    assert question.in_words
    with pytest.raises(AssertionError, match="was read"):
        read_question(ask(text[1:]).messages, longest=LONGEST)


def test_one_that_is_too_long_still_has_an_address_of_its_own() -> None:
    text = "word " * LONGEST
    assert ADDRESSES.of(TENANT, ask(text)) == ADDRESSES.of(TENANT, ask(text))
    assert ADDRESSES.of(TENANT, ask(text)).key != ADDRESSES.of(TENANT, ask(text + "x")).key


@given(st.text(max_size=80), st.text(max_size=80))
def test_an_entrys_id_is_a_uuid_by_name(scope_: str, key: str) -> None:
    """As RFC 9562 §5.5 makes them: ids are in the store, and must never change."""
    assert entry_id(scope_, key) == str(uuid.uuid5(ENTRY_IDS, f"{scope_}/{key}"))


@pytest.mark.parametrize("key", [b"", KEY, bytes(64), bytes(range(65)), b"k" * 200], ids=len)
def test_a_key_is_the_hmac_of_the_question(key: bytes) -> None:
    addresses = Addresses(key, embedder="known_1", longest=LONGEST)
    told = encode(("question", VERSION, (True, ("How do I reset my password?",))))
    assert addresses.of(TENANT, BASE).key == hmac.new(key, told, "sha256").hexdigest()
