"""Policies judge by form: what a person finds plainly simple or plainly hard is judged so."""

from __future__ import annotations

import json
import time
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalogue.values import Tier
from services.llm.values import GenerationOptions, Message, Role, TextPart, Tool
from services.router.complexity import ComplexityModel
from services.router.features import NAMES, SCANNED_CHARS, extract
from services.router.policies.keywords import KeywordPolicy
from services.router.policies.static import StaticPolicy
from services.router.values import RouteRequest

MODEL = ComplexityModel.packaged()
STATIC = StaticPolicy(MODEL)
KEYWORDS = KeywordPolicy()


def asked(text: str, *earlier: Message, tools: tuple[Tool, ...] = ()) -> RouteRequest:
    return RouteRequest((*earlier, Message(Role.USER, (TextPart(text),))), tools=tools)


def score(request: RouteRequest) -> float:
    return MODEL.score(extract(request.messages, request.tools, request.options))


SIMPLE = [
    "How do I reset my password?",
    "How can I reset my password?",
    "What is the capital of France?",
    "hi",
    "Translate 'good morning' to French",
    "Where is my package?",
    "What are the opening hours of your store on Sundays?",
]
COMPLEX = [
    "Design a multi-region deployment for a payments API: it must survive the loss of a region, keep writes "
    "consistent, and stay within a p99 of 200 ms. Explain the trade-offs step by step.",
    "Design a multi-region, active-active architecture for a payment system",
    "Analyse the trade-offs between CRDTs and consensus for collaborative editing, then design a sync protocol",
    "Implement a lock-free queue in C++ and prove that it is linearizable",
    "Refactor this code:\n```python\ndef f(x):\n    return x\n```\nIt must be thread-safe, must not allocate, and "
    "should keep the API. First explain the problem, then give the code.",
]


@pytest.mark.parametrize("text", SIMPLE)
def test_plainly_simple_questions(text: str) -> None:
    assert STATIC.assess(asked(text)).complexity is Tier.SIMPLE
    assert KEYWORDS.assess(asked(text)).complexity is Tier.SIMPLE


@pytest.mark.parametrize("text", COMPLEX)
def test_plainly_hard_tasks(text: str) -> None:
    assert STATIC.assess(asked(text)).complexity is Tier.COMPLEX
    assert KEYWORDS.assess(asked(text)).complexity is Tier.COMPLEX


def test_something_lies_between() -> None:
    between = (
        "A train leaves at 3pm at 60 mph and another at 4pm at 80 mph. When does the second catch up with the first?"
    )
    assert STATIC.assess(asked(between)).complexity is Tier.MODERATE
    assert KEYWORDS.assess(asked("Explain how photosynthesis works")).complexity is Tier.MODERATE


@pytest.mark.parametrize(
    "more", ["\n```\nint main() { return 0; }\n```\n", " It must be exact.", " Then compare them."]
)
def test_more_work_is_never_easier(more: str) -> None:
    text = "Write a summary of the meeting"
    assert score(asked(text + more)) > score(asked(text))


def test_conversation_tools_and_schema_make_it_harder() -> None:
    plain = asked("And now?")
    turns = tuple(Message(role, (TextPart("hm"),)) for _ in range(3) for role in (Role.USER, Role.ASSISTANT))
    assert score(asked("And now?", *turns)) > score(plain)
    assert score(asked("And now?", tools=(Tool("a"), Tool("b")))) > score(plain)
    schema = GenerationOptions(response_format={"type": "json_schema"})
    assert score(RouteRequest(plain.messages, options=schema)) > score(plain)
    text = GenerationOptions(response_format={"type": "text"})
    assert score(RouteRequest(plain.messages, options=text)) == score(plain)


def test_the_last_user_message_is_judged_not_the_system_prompt_or_a_tool_result() -> None:
    system = Message(Role.SYSTEM, (TextPart("Design, prove, analyse, and compare in detail. " * 20),))
    result = Message(Role.TOOL, (TextPart("Design, prove, analyse. " * 20),), tool_call_id="1")
    question = Message(Role.USER, (TextPart("What is the capital of France?"),))
    assert STATIC.assess(RouteRequest((system, question, result))).complexity is Tier.SIMPLE
    assert STATIC.assess(RouteRequest((result,))).complexity is Tier.SIMPLE


def test_the_instruction_at_either_end_of_a_long_text_is_read() -> None:
    filler = "lorem ipsum " * SCANNED_CHARS
    instruction = "Design a distributed architecture and prove its consistency."
    for text in (f"{instruction}\n{filler}", f"{filler}\n{instruction}"):
        assert extract(asked(text).messages, (), GenerationOptions())["open_task"] > 1


@given(st.text(max_size=400))
def test_any_text_is_judged_with_reasons(text: str) -> None:
    request = asked(text)
    features = extract(request.messages, (), GenerationOptions())
    assert set(features) == set(NAMES)
    for policy in (STATIC, KEYWORDS):
        assessment = policy.assess(request)
        assert 0 <= assessment.confidence <= 1
        assert assessment.reasons and assessment == policy.assess(request)


@pytest.mark.parametrize("unit", ["(", "a.", "{\n", "1,", "first ", "A. \n", "`", "\t", " "])
def test_judging_takes_no_longer_for_hostile_text(unit: str) -> None:
    request = asked(unit * 2_000_000)
    began = time.process_time()
    STATIC.assess(request)
    KEYWORDS.assess(request)
    assert time.process_time() - began < 0.5  # generous: it takes a few milliseconds


def test_keyword_rules_where_no_keyword_stands() -> None:
    assert KEYWORDS.assess(asked("good morning")).complexity is Tier.SIMPLE
    assert KEYWORDS.assess(asked("blue " * 50)).complexity is Tier.MODERATE
    assert KEYWORDS.assess(asked("blue " * 300)).complexity is Tier.COMPLEX
    assert KEYWORDS.assess(asked("define " + "blue " * 150)).complexity is Tier.MODERATE


def test_confidence_is_zero_on_a_border_and_grows_with_distance() -> None:
    assert MODEL.classify(MODEL.simple_below) == (Tier.MODERATE, 0.0)
    assert MODEL.classify(MODEL.complex_from) == (Tier.COMPLEX, 0.0)
    assert MODEL.classify(MODEL.simple_below - 1)[1] > MODEL.classify(MODEL.simple_below - 0.1)[1] > 0


def test_coefficients_of_other_features_are_refused() -> None:
    content = json.loads(resources.files("services.router").joinpath("complexity.json").read_text())
    for change, told in (
        ({"features_revision": 0}, "revision"),
        ({"coefficients": {"astrology": 1.0}}, "astrology"),
        ({"simple_below": 2.0, "complex_from": 1.0}, "rise"),
    ):
        with pytest.raises(ValueError, match=told):
            ComplexityModel.parse(json.dumps(content | change))


def test_the_packaged_coefficients_say_where_they_come_from() -> None:
    content = json.loads(resources.files("services.router").joinpath("complexity.json").read_text())
    assert len(content["fitted_on"]) == 3
    for figures in content["report"].values():
        assert {"apgr_left_out", "apgr_prompt_length", "apgr_domain_mean", "apgr_random"} <= figures.keys()
