"""What the fills of a cache hand out. Times are in seconds of the monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass

from services.llm.values import Answer


@dataclass(frozen=True, slots=True)
class Granted:
    """The receiver makes the answer. The lease runs out at `expires`, `duration` after its last renewal."""

    lease_id: str
    expires: float
    duration: float


@dataclass(frozen=True, slots=True)
class InProgress:
    """Someone else makes the answer, to wait for under this id. `near`: to another question, which will do."""

    lease_id: str
    near: bool = False


@dataclass(frozen=True, slots=True)
class Filled:
    """The answer that someone else made; `entry_id` is empty if it was not stored."""

    answer: Answer
    entry_id: str


@dataclass(frozen=True, slots=True)
class Pending:
    """Nothing has happened in the time that the caller could wait."""


@dataclass(frozen=True, slots=True)
class Over:
    """A question like one's own is not being answered any more; `committed`: its answer has come."""

    committed: bool
