"""Streams of compatible servers, with what each does in its own way, written after their documentation.

The files are in `tests/fakes/streams`; the comment in their first line names the source.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.errors import AntiphonError, Reason, Unavailable
from services.completion.draft import Draft
from services.completion.upstreams.chunks import ChunkReader
from services.completion.upstreams.sse import SseDecoder
from services.llm.values import FinishReason, ToolCall, Usage

STREAMS = Path("tests/fakes/streams")


def read(name: str, *, piece: int) -> tuple[Draft, AntiphonError | None]:
    """Return what the stream comes to, fed in pieces of so many bytes, and the error that it ends with."""
    data = (STREAMS / f"{name}.sse").read_bytes()
    decoder, reader, draft = SseDecoder(), ChunkReader("up"), Draft()
    pieces = [decoder.feed(data[start : start + piece]) for start in range(0, len(data), piece)]
    try:
        for payload in (payload for payloads in (*pieces, decoder.flush()) for payload in payloads):
            for event in reader.read(payload):
                draft.take(event)
    except AntiphonError as error:
        return draft, error
    return draft, None


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("name", "text", "finish", "usage"),
    [
        ("vllm", "9.8 is greater.", FinishReason.STOP, Usage(17, output=7)),
        ("vllm_reasoning", "9.8", FinishReason.STOP, None),
        ("vllm_continuous_usage", "9.8", FinishReason.LENGTH, Usage(17, output=2)),
        ("llama_cpp", "Hello!", FinishReason.STOP, Usage(43, output=2)),
        ("deepseek", "Yes", FinishReason.STOP, Usage(20, cached_input=16, output=9, reasoning=6)),
        ("azure", "Sure", FinishReason.CONTENT_FILTER, Usage(8, output=1)),
        ("gemini_parallel_tools", "", FinishReason.TOOL_CALLS, Usage(50, output=30)),
        ("mistral_tools", "", FinishReason.TOOL_CALLS, Usage(99, output=30)),
        ("ollama", "Hi", FinishReason.STOP, None),
    ],
)
def test_every_servers_answer_is_read(
    name: str, text: str, finish: FinishReason, usage: Usage | None, piece: int
) -> None:
    draft, error = read(name, piece=piece)
    assert error is None
    assert (draft.text, draft.finish, draft.usage) == (text, finish, usage)


def test_reasoning_is_no_part_of_the_answer_under_either_name() -> None:
    draft, _ = read("vllm_reasoning", piece=64)
    assert draft.written == "9.8Compare the decimals."


def test_an_error_in_the_stream_is_one_although_a_finish_reason_stands_beside_it() -> None:
    draft, error = read("openrouter", piece=64)
    assert isinstance(error, Unavailable)
    assert (draft.text, draft.finish, error.reason) == ("Half", None, Reason.UPSTREAM_UNAVAILABLE)
    assert "Provider" not in f"{error} {error.metadata}"


def test_parallel_tool_calls_with_one_index_stay_apart() -> None:
    assert read("gemini_parallel_tools", piece=64)[0].tool_calls == (
        ToolCall("call-a", "weather", '{"city":"Oslo"}'),
        ToolCall("call-b", "weather", '{"city":"Rome"}'),
    )


def test_tool_calls_without_index_stay_apart() -> None:
    assert [call.name for call in read("mistral_tools", piece=64)[0].tool_calls] == ["weather", "time"]


def test_every_file_is_read_here_and_names_its_source() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for path in STREAMS.iterdir():
        assert f'"{path.stem}"' in text
        assert path.read_text(encoding="utf-8").startswith(": https://")
