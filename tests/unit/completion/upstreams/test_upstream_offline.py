"""The stand-in."""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.errors import DeadlineExceeded
from services.completion.upstreams.offline import OfflineUpstream
from services.completion.upstreams.protocol import ChatEvent, ChatRequest, Finish, TextDelta, UsageReport
from services.llm.values import FinishReason, GenerationOptions, ImagePart, Message, Role, TextPart, Tool


def asking(text: str, model: str = "offline-small", **options: object) -> ChatRequest:
    return ChatRequest(
        model,
        (Message(Role.USER, (TextPart(text),)),),
        options=GenerationOptions(**options),  # type: ignore[arg-type]
    )


async def events(request: ChatRequest, timeout: float = 5.0) -> list[ChatEvent]:
    return [event async for batch in OfflineUpstream().stream(request, timeout=timeout) for event in batch]


async def text(request: ChatRequest) -> str:
    return "".join(event.text for event in await events(request) if isinstance(event, TextDelta))


async def test_it_says_what_it_is_and_names_the_model() -> None:
    said = await text(asking("How do I reset my password?", "offline-large"))
    assert said.startswith("[stand-in]")
    assert "no language model" in said
    assert "offline-large" in said
    assert "How do I reset my password?" in said
    assert 40 <= len(said.split()) <= 75


async def test_the_same_question_gets_the_same_answer_and_any_other_another() -> None:
    long = "x" * 500
    asked = [
        asking("How do I reset my password?"),
        asking("How do I reset my password"),
        asking(long + " a"),
        asking(long + " b"),
        asking("How do I reset my password?", "offline-large"),
        ChatRequest("offline-small", (Message(Role.SYSTEM, (TextPart("s"),)), *asking("a").messages)),
        asking("a"),
        ChatRequest("offline-small", (Message(Role.USER, (ImagePart("https://x/a.png"),)),)),
        ChatRequest("offline-small", (Message(Role.USER, (ImagePart("https://x/b.png"),)),)),
    ]
    first, second = [[await text(request) for request in asked] for _ in range(2)]
    assert first == second
    assert len(set(first)) == len(asked)


async def test_usage_and_finish_end_the_answer() -> None:
    *words, report, end = await events(asking("one two three"))
    assert isinstance(report, UsageReport)
    assert (report.usage.input, report.usage.output, report.usage.estimated) == (3, len(words), False)
    assert end == Finish(FinishReason.STOP)


async def test_the_limit_of_output_is_kept_and_told() -> None:
    whole = await text(asking("hi"))
    *words, report, end = await events(asking("hi", max_output_tokens=5))
    assert len(words) == 5
    assert "".join(word.text for word in words if isinstance(word, TextDelta)).split() == whole.split()[:5]
    assert isinstance(report, UsageReport)
    assert report.usage.output == 5
    assert end == Finish(FinishReason.LENGTH)


async def test_stop_texts_are_kept_out() -> None:
    request = asking("hi", stop=("language", "no "))
    assert (await text(request)).endswith("which is ")
    assert (await events(request))[-1] == Finish(FinishReason.STOP)


async def test_tools_are_ignored() -> None:
    request = asking("hi")
    with_tool = ChatRequest(request.model, request.messages, (Tool("f"),), request.options)
    assert await text(with_tool) == await text(request)


async def test_the_pace_is_kept_per_word() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    upstream = OfflineUpstream(pace=0.02, sleep=sleep, monotonic=lambda: 0.0)
    answered = [e async for batch in upstream.stream(asking("hi", max_output_tokens=7), timeout=5) for e in batch]
    assert slept == [0.02] * 7
    assert len(answered) == 9


async def test_the_time_of_the_call_wins_over_the_pace() -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    upstream = OfflineUpstream(pace=1.0, sleep=sleep, monotonic=lambda: now)
    seen = 0
    with pytest.raises(DeadlineExceeded):
        async for _ in upstream.stream(asking("hi"), timeout=3.5):
            seen += 1
    assert (seen, now) == (3, 3.5)


async def test_no_time_no_answer() -> None:
    with pytest.raises(DeadlineExceeded):
        await events(asking("hi"), timeout=0)


async def test_it_can_be_cancelled_between_words() -> None:
    async def consume() -> None:
        async for _ in OfflineUpstream(pace=60.0).stream(asking("hi"), timeout=600):
            pass

    task = asyncio.create_task(consume())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
