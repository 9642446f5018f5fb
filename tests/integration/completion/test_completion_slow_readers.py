"""A caller that reads more slowly than the answer is written, over gRPC with its flow control."""

from __future__ import annotations

import grpc
import pytest

from antiphon_client import AntiphonError
from services.completion.ports import Found, Outcome
from tests.fakes.behaviours import answering
from tests.integration.attempts.world import World, world
from tests.unit.completion.completion_parts import answered, until

PIECES = ["x" * 8_000] * 200
"""Far more than the connection and the reader's backlog take together."""

BACKLOG = 65_536


async def read_late(w: World, *, key: str | None = None) -> AntiphonError | None:
    """Read the first event, the others when the answer has been written, and return the error of the stream."""
    try:
        async with w.client.stream("Slowly", idempotency_key=key, timeout=60) as stream:
            await anext(stream)
            fills = list(w.service.fills._all)  # none, if it has been written already
            await until(lambda: all(fill.transcript.ended for fill in fills))
            text = ""
            async for event in stream:
                text += event.delta.text
            assert text == "".join(PIECES)
    except AntiphonError as error:
        return error
    return None


@pytest.mark.fault(9)
@pytest.mark.parametrize("key", [None, "k"])
async def test_who_falls_too_far_behind_is_given_up(key: str | None) -> None:
    async with world(reader_backlog=BACKLOG, reader_patience=0) as w:
        w.primary.default = answering(*PIECES)
        error = await read_late(w, key=key)
        assert error is not None
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "READER_TOO_SLOW")
        assert error.metadata["limit_bytes"] == str(BACKLOG)
        await w.settled()


@pytest.mark.fault(9)
async def test_who_is_slow_within_its_patience_gets_all() -> None:
    async with world(reader_backlog=BACKLOG, reader_patience=600) as w:
        w.primary.default = answering(*PIECES)
        assert await read_late(w) is None


@pytest.mark.fault(9)
async def test_an_answer_that_is_all_there_is_read_at_any_pace() -> None:
    async with world(reader_backlog=BACKLOG, reader_patience=0) as w:
        w.cache.found.append(Found(Outcome.EXACT, answer=answered("".join(PIECES)), entry_id="e"))
        events, error = await w.stream("Slowly")
        assert error is None
        assert w.primary.chat_calls == []
        assert "".join(event.delta.text for event in events) == "".join(PIECES)
