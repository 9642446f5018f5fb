"""Which answers may be kept."""

from __future__ import annotations

from enum import StrEnum

from services.cache.entry import text_bytes
from services.cache.outline import Kept, Outline
from services.llm.values import Answer, FinishReason

_COMPLETE = frozenset({FinishReason.STOP, FinishReason.TOOL_CALLS})


class NotStored(StrEnum):
    """Why an answer was not stored."""

    FINISH_REASON = "finish_reason"
    EMPTY = "empty"
    REFUSAL = "refusal"
    NO_STORE = "no_store"
    TOO_LARGE = "too_large"
    CLEARED = "cleared"


def unfit(question: str, answer: Answer, *, max_bytes: int) -> NotStored | None:
    """Why this answer must not be stored, or None: it was cut or filtered, refuses, says nothing, or is too large."""
    if answer.finish_reason not in _COMPLETE:
        return NotStored.FINISH_REASON
    if answer.refusal:
        return NotStored.REFUSAL
    if not answer.text.strip() and not answer.tool_calls:
        return NotStored.EMPTY
    if text_bytes(question, answer) > max_bytes:
        return NotStored.TOO_LARGE
    return None


def semantically(answer: Kept) -> bool:
    """Whether a reworded question may be served this answer.

    One that calls tools is for the very same question only: its arguments repeat words of the question, and a caller
    acts on them. For the same question it is what the model would do again, its call ids being unique within the
    conversation that they are part of.
    """
    return not (answer.calls_tools if isinstance(answer, Outline) else answer.tool_calls)
