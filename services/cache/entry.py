"""One stored answer."""

from __future__ import annotations

from enum import StrEnum

from services.cache.origin import Origin
from services.cache.outline import Kept, Outline, body_bytes
from services.cache.review import UNREVIEWED, Review
from services.chassis.value import value
from services.llm.values import Answer

MICROSECONDS = 1_000_000
VECTOR_ELEMENT_BYTES = 4

CLOCK_SKEW_US = 5 * MICROSECONDS
"""By which the clocks of replicas may differ without anybody noticing."""


WRITTEN_AGAIN, SAID = 1, 2
"""By how much the version of an answer grows when it is written again, say with an embedding, and when something is
said about it. Little, so that any other answer stored since, perhaps where it was not heard of yet, counts: versions
are microseconds otherwise. More for what is said: where a copy of it got its embedding, it is heard all the same."""


class Source(StrEnum):
    """Who stored an entry: the holder of a fill, or a caller of Put."""

    FILL = "fill"
    PUT = "put"


@value
class Entry:
    """A question with its answer, as it is in memory and in the store. Times are Unix microseconds.

    `scope` and `key` are keyed hashes (`services.cache.scope`); `id` follows from them, so a new answer to the same
    question takes the place of the old one. Of two answers the one with the larger `ver` counts; it is below 2^53.
    An entry is visible only while its namespace's epoch is still `epoch`. In memory the answer may be without its body,
    once the store has it (`services.cache.hot`); what is stored or served is `whole`.
    """

    id: str
    tenant: str
    namespace: str
    scope: str
    key: str
    question: str
    answer: Kept
    created_us: int
    """When the answer was made; age counts from here."""
    updated_us: int
    """When the entry was written, or what was said about it."""
    expires_us: int
    ver: int
    epoch: int
    source: Source
    tags: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    """What the answer was made from, by name, and in which version; sorted."""
    decided_by: str = ""
    """Version of the decision that was in use when it was written; empty in records from before there was one."""
    writer: str = ""
    """Id of the API key for which it was written; empty without credentials, and in records from before it was kept."""
    answered_us: int = 0
    """When the entry was written, if something was said about it since; see `written_us`."""
    review: Review = UNREVIEWED
    origin: Origin | None = None
    """How it was asked, sealed; None in records from before it was kept, which cannot move to another cache."""

    @property
    def whole(self) -> bool:
        """Whether the answer's body is here."""
        return not isinstance(self.answer, Outline)

    @property
    def whole_answer(self) -> Answer:
        """The answer of an entry that is `whole`; BodyMissing, which is a defect, of any other."""
        if isinstance(self.answer, Outline):
            raise BodyMissing(self.id)
        return self.answer

    @property
    def written_us(self) -> int:
        """When this answer was stored, whatever was said about it since."""
        return self.answered_us or self.updated_us

    def withheld(self, *, own: bool) -> bool:
        """Whether it is quarantined for the question it was stored under (`own`), or for reworded ones."""
        quarantine = self.review.quarantine
        return quarantine is not None and (quarantine.whole or not own)

    @property
    def expires_at(self) -> float:
        """Unix seconds."""
        return self.expires_us / MICROSECONDS

    def live(self, now: float) -> bool:
        """Whether it may still be served; reading never extends its time.

        One from the future was written by a clock that is wrong: nobody knows when its time is over.
        """
        return now * MICROSECONDS < self.expires_us and not self.from_future(now)

    def from_future(self, now: float) -> bool:
        """Whether it was written by a clock that is wrong."""
        return self.updated_us > now * MICROSECONDS + CLOCK_SKEW_US

    def age(self, now: float) -> float:
        """Seconds since the answer was made, never negative."""
        return max(now - self.created_us / MICROSECONDS, 0.0)


class BodyMissing(Exception):
    """Somebody wanted to store or to serve an answer without its body."""


def text_bytes(question: str, answer: Kept) -> int:
    """Bytes of the texts of an entry, as limits and statistics count them."""
    return len(question.encode()) + body_bytes(answer)
