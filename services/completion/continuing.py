"""Answers that broke off after their readers have read a part: what they are told, and how another model goes on."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from services.chassis.errors import AntiphonError, DeadlineExceeded, Exhausted, Reason, Unavailable
from services.completion.draft import Draft
from services.completion.resilience.verdict import Verdict, verdict_on
from services.llm.values import Message, Role, TextPart

GO_ON = (
    "Your answer above was cut off by a technical failure. Continue it exactly where it stops, in the same language, "
    "form and style. Write only what follows: repeat nothing, and do not mention the interruption."
)
"""To the model that continues. A last message of the assistant alone is continued by some servers only."""


def messages(asked: tuple[Message, ...], written: str) -> tuple[Message, ...]:
    """Return the conversation with what was written and the request to go on."""
    partial = Message(Role.ASSISTANT, (TextPart(written),))
    return (*asked, partial, Message(Role.USER, (TextPart(GO_ON),)))


def can_be(draft: Draft, error: AntiphonError) -> bool:
    """Whether another model may continue: text only, cut by a failure of the server and not by a limit of ours."""
    limit = isinstance(error, DeadlineExceeded) or _too_large(error)
    text_only = bool(draft.text) and not draft.tool_calls and not draft.refusal
    return text_only and not limit and verdict_on(error) is not Verdict.FATAL


def broken_off(error: AntiphonError, offset: int) -> AntiphonError:
    """Return the error for an answer of which `offset` bytes of text were delivered; our own limits keep theirs."""
    said = {"offset": str(offset), "partial": "true"}
    if isinstance(error, DeadlineExceeded) or _too_large(error):
        return saying(error, said)
    return Unavailable(
        error.message,
        reason=Reason.UPSTREAM_TRUNCATED,
        retry_after=error.retry_after,
        metadata={"cause": error.reason.value, **error.metadata, **said},
    )


def saying(error: AntiphonError, said: Mapping[str, str]) -> AntiphonError:
    """Return the error with more metadata."""
    told = copy.copy(error)
    told.metadata = {**error.metadata, **said}
    return told


def _too_large(error: AntiphonError) -> bool:
    return isinstance(error, Exhausted) and error.reason is Reason.UPSTREAM_MALFORMED
