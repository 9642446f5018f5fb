"""An answer whose body, its words and tool calls, is in the store only, and what can be told of it all the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from sys import getsizeof

from services.llm.values import Answer, Cost, FinishReason, Usage

DIGEST_BYTES = 15
"""Of a body's BLAKE2b (RFC 7693): 120 bits, and with Python's own 33 bytes no byte of memory more than 48."""

INLINE_BYTES = 320
"""Of memory: a body that takes no more, some 270 letters, always stays. An outline takes 80 bytes more than the rest of
an answer, so little would be won, and a body that is fetched costs half a millisecond (`tests/bench/fetching.py`)."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What stays in memory of an answer whose body does not; fields of the same name are those of `Answer`."""

    finish_reason: FinishReason
    model: str
    upstream: str
    usage: Usage
    cost: Cost
    created_at: float
    calls_tools: bool
    size: int
    """Bytes of the body, as limits and statistics count them."""
    digest: bytes
    """Of the body: equal for equal ones."""


Kept = Answer | Outline
"""An answer as an entry in memory has it."""


def outline(answer: Kept) -> Outline:
    """The same answer without its body."""
    if isinstance(answer, Outline):
        return answer
    return Outline(
        finish_reason=answer.finish_reason,
        model=answer.model,
        upstream=answer.upstream,
        usage=answer.usage,
        cost=answer.cost,
        created_at=answer.created_at,
        calls_tools=bool(answer.tool_calls),
        size=body_bytes(answer),
        digest=_digest(answer),
    )


def same(one: Kept, other: Kept) -> bool:
    """Whether two answers are equal, each with or without its body."""
    if isinstance(one, Answer) and isinstance(other, Answer):
        return one == other
    return outline(one) == outline(other)


def same_body(one: Kept, other: Kept) -> bool:
    """Whether two answers say the same, whoever made them and at what cost."""
    return digest_of(one) == digest_of(other)


def digest_of(answer: Kept) -> bytes:
    """Of an answer's body: equal for equal ones."""
    return answer.digest if isinstance(answer, Outline) else _digest(answer)


def body_bytes(answer: Kept) -> int:
    """Bytes of an answer's words and tool calls, as limits and statistics count them."""
    if isinstance(answer, Outline):
        return answer.size
    calls = sum(len(call.id) + len(call.name) + len(call.arguments.encode()) for call in answer.tool_calls)
    return len(answer.text.encode()) + calls


def body_memory(answer: Answer) -> int:
    """Bytes of memory that an answer's body takes."""
    memory = getsizeof(answer.text) + (getsizeof(answer.refusal) if answer.refusal else 0)
    for call in answer.tool_calls:
        memory += getsizeof(call) + getsizeof(call.id) + getsizeof(call.name) + getsizeof(call.arguments)
    return memory


def _digest(answer: Answer) -> bytes:
    """Over the parts of the body, each behind its length."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    calls = (part for call in answer.tool_calls for part in (call.id, call.name, call.arguments))
    for part in (answer.text, answer.refusal, *calls):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()
