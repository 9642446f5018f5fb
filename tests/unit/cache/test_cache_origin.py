"""An entry can be given its address under another key, without the messages that decided it; the store tells nobody."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.adapters.records import from_record, to_payload
from services.cache.ports import Write
from services.cache.scope import Addresses
from services.cache.values import Query
from services.llm.values import GenerationOptions, ImagePart, Message, Role, TextPart, Tool
from services.storage import Record
from tests.unit.cache.cache_parts import DIM, KEY, TENANT, ask, benched, user

LONGEST = 10_000
HERE = Addresses(KEY, embedder="known_1", longest=LONGEST)
THERE = Addresses(bytes(32), embedder="other_1", longest=LONGEST)
SYSTEM = Message(Role.SYSTEM, (TextPart("Be brief."),))

ASKED = {
    "plain": ask("How do I reset my password?"),
    "a model": ask("How do I reset my password?", model="large"),
    "a system prompt": ask("How do I reset my password?", SYSTEM),
    "earlier turns": ask("And in French?", user("Say hello."), Message(Role.ASSISTANT, (TextPart("Hello."),))),
    "an author": Query((Message(Role.USER, (TextPart("Who am I?"),), name="ann"),)),
    "several parts": Query((Message(Role.USER, (TextPart("Sum up:\n"), TextPart("  a text "), TextPart(""))),)),
    "a picture": Query((Message(Role.USER, (TextPart("What is it?"), ImagePart("https://example.org/a.png"))),)),
    "a tool's result": Query((user("Add."), Message(Role.TOOL, (TextPart("4"),), tool_call_id="c"))),
    "options and tools": dataclasses.replace(
        ask("How?"), options=GenerationOptions(seed=1), tools=(Tool("t"),), objective="cheapest"
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_an_address_is_found_again_under_another_key(name: str) -> None:
    asked = ASKED[name]
    here = HERE.of(TENANT, asked)
    there = THERE.at("globex", "else", here.question.text, here.origin)
    assert there == THERE.of("globex", dataclasses.replace(asked, namespace="else"))
    assert there.scope != here.scope
    assert HERE.at(TENANT, asked.namespace, here.question.text, here.origin) == here


@given(st.lists(st.text(alphabet="a \n`é\r", max_size=6), min_size=1, max_size=4))
def test_texts_in_parts_are_found_again(texts: list[str]) -> None:
    here = HERE.of(TENANT, Query((Message(Role.USER, tuple(map(TextPart, texts))),)))
    assert HERE.at(TENANT, "default", here.question.text, here.origin) == here


def test_an_origin_of_another_text_is_refused() -> None:
    here = HERE.of(TENANT, ASKED["several parts"])
    with pytest.raises(ValueError, match="not made of these parts"):
        HERE.at(TENANT, "default", "Sum up", here.origin)


def test_what_is_kept_says_nothing_without_the_key() -> None:
    scopes = [HERE.of(tenant, ASKED["a system prompt"]) for tenant in ("acme", "globex")]
    sealed = [HERE.sealed(one.scope, one.origin) for one in scopes]
    assert scopes[0].origin == scopes[1].origin
    assert len({one.digest for one in (*sealed, scopes[0].origin)}) == 3
    assert [HERE.sealed(one.scope, kept) for one, kept in zip(scopes, sealed, strict=True)] == [scopes[0].origin] * 2


@pytest.mark.parametrize("name", ASKED)
async def test_an_entry_keeps_it_in_the_store(name: str) -> None:
    async with benched() as bench:
        entry = await bench.put(ASKED[name])
    payload = to_payload(Write(entry, None), embedder="known_1", saved_us=1)
    assert HERE.of(TENANT, ASKED[name]).origin.digest.hex() not in str(payload)
    read = from_record(Record(entry.id, None, payload), embedder="known_1", dim=DIM)
    assert isinstance(read, Write)
    assert read.entry == entry
    assert entry.origin is not None
    assert HERE.sealed(entry.scope, entry.origin) == HERE.of(TENANT, ASKED[name]).origin
