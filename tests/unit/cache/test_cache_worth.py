"""Who has to go when there is no room: what has expired, then what promises to save least."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from services.cache.review import FeedbackSource, Quarantine, Review, Said
from services.cache.room import Capacity, Eviction
from services.cache.worth import INPUT_NANO_USD, OUTPUT_NANO_USD, p_right, reuse, saving
from services.llm.values import Answer, Cost, FinishReason, Usage
from tests.bench.evicting import Lru, Ours, run
from tests.unit.cache.room_parts import FAR_US, Memory

# --- who goes ---------------------------------------------------------------------------------------------------------


def test_what_has_expired_goes_first_and_from_the_tenant_that_is_full(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(tenant_entries=40))
    memory.put("theirs", tenant="b", expires_us=50)
    memory.put("over", expires_us=100, nano_usd=10**9)
    memory.hit("over", 100)
    for number in range(40):
        memory.put(f"{number}", now_us=99 if number < 39 else 100)
    assert [(victim.entry.id, victim.reason) for victim in memory.gone] == [("over", Eviction.EXPIRED)]
    assert memory.names("b") == {"theirs"}


def test_what_was_said_later_moves_the_end(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(2))
    before = memory.put("first", expires_us=100)
    assert memory.entries.amend(replace(before, expires_us=FAR_US, ver=memory.entries.next_ver(1)))
    memory.put("second", expires_us=200)
    memory.put("third", now_us=300)
    assert memory.lost == ["second"]


def test_what_was_never_hit_goes_before_what_was(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(10))
    for number in range(10):
        memory.put(f"{number}")
    for number in range(9):
        memory.hit(f"{number}")
    memory.put("new")
    assert memory.lost == ["9"]


def test_hits_fade(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(3))
    for name in ("past", "present", "third"):
        memory.put(name)
    memory.hit("past", 200)
    memory.hit("third", 5_000)
    memory.hit("present", 50)
    memory.put("new")
    assert memory.lost == ["past"]


def test_what_was_cheap_goes_before_what_was_dear(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(5))
    for number, nano_usd in enumerate([500, 200, 900, 100, 700]):
        memory.put(f"{number}", nano_usd=nano_usd)
        memory.hit(f"{number}")
    memory.put("new")
    memory.hit("new")
    memory.put("newer")
    assert memory.lost == ["3", "1"]


def test_what_may_be_wrong_goes_before_what_is_as_dear(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(5))
    for number in range(5):
        memory.put(f"{number}")
        memory.hit(f"{number}", 2)
    memory.doubts["1"] = 0.6
    memory.put("new")
    assert memory.lost == ["1"]


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_called_wrong_goes_first(executor: ThreadPoolExecutor, whole: bool) -> None:
    memory = Memory(executor, Capacity(5))
    said = (Said(FeedbackSource.JUDGE, "by", "id", right=False, semantic=not whole, at_us=1),)
    wrong = Review(said, Quarantine("judge", whole=whole, at_us=1))
    for number in range(5):
        fields = {"review": wrong, "nano_usd": 10**12 if whole else 1_000} if number == 2 else {}
        memory.put(f"{number}", **fields)
        memory.hit(f"{number}", 3)
    memory.put("new", nano_usd=1)
    assert memory.lost == ["2"]


def test_a_newcomer_is_not_its_own_victim_and_stays_if_it_is_asked_for(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(200))
    for number in range(200):
        memory.put(f"old {number}", nano_usd=10**7)
        memory.hit(f"old {number}", 3)
    memory.put("asked for", nano_usd=10**7)
    memory.put("never asked for", nano_usd=10**7)
    assert {"asked for", "never asked for"} <= memory.names()
    for number in range(300):
        memory.hit("asked for")
        memory.put(f"new {number}", nano_usd=10**7)
    assert "asked for" in memory.names()
    assert "never asked for" not in memory.names()


def test_another_answer_to_a_question_keeps_its_hits(executor: ThreadPoolExecutor) -> None:
    memory = Memory(executor, Capacity(3))
    for number in range(3):
        memory.put(f"{number}")
    memory.hit("0", 5)
    memory.put("0", text="another answer")
    memory.hit("2")
    memory.hit("1")
    memory.put("3")
    assert {"0", "3"} < memory.names()


# --- worth ------------------------------------------------------------------------------------------------------------


def test_what_a_hit_saves_is_estimated_where_nobody_says() -> None:
    answer = Answer("x" * 400, FinishReason.STOP, "small")
    told = replace(answer, usage=Usage(input=30, output=100))
    assert saving("q" * 40, replace(told, cost=Cost(7, "p1"))) == 7
    assert saving("q" * 40, told) == 30 * INPUT_NANO_USD + 100 * OUTPUT_NANO_USD
    assert saving("q" * 40, answer) == 10 * INPUT_NANO_USD + 100 * OUTPUT_NANO_USD
    free = saving("q" * 40, replace(told, cost=Cost(0, "p1")))
    assert 0 < free < saving("q" * 40, told) / 100
    assert saving("", Answer("", FinishReason.STOP, "small")) > 0


def test_more_hits_and_fewer_events_promise_more() -> None:
    assert reuse(2, 100, 1_000) > reuse(1, 100, 1_000) > reuse(1, 1_000, 1_000) > reuse(0, 1_000, 1_000)
    assert reuse(0, 10, 1_000) > reuse(0, 100_000, 1_000) > 0


def test_whoever_speaks_moves_what_is_believed() -> None:
    def review(*voices: bool, whole: bool | None = None) -> Review:
        said = tuple(
            Said(FeedbackSource.USER, str(number), str(number), right=right, semantic=False, at_us=1)
            for number, right in enumerate(voices)
        )
        return Review(said, None if whole is None else Quarantine("users", whole=whole, at_us=1))

    assert p_right(Review(), 0.0) == 1.0
    assert p_right(Review(), 0.25) == 0.75
    assert p_right(review(True, True), 0.0) == 1.0
    assert 0 < p_right(review(False, False), 0.0) < p_right(review(False), 0.0) < p_right(review(True, False), 0.0) < 1
    assert p_right(review(False, False, False, whole=True), 0.0) == 0.0


# --- under churn ------------------------------------------------------------------------------------------------------


def test_ten_times_as_many_questions_as_there_is_room_for(executor: ThreadPoolExecutor) -> None:
    capacity, length, seed = 300, 20_000, 7
    ours = Ours(capacity, executor, seed)
    unbounded = run(Lru(length), capacity, length, seed)
    lru = run(Lru(capacity), capacity, length, seed)
    result = run(ours, capacity, length, seed)
    assert result.most == capacity
    assert ours.evicted == {Eviction.ENTRIES: ours.stored - capacity}
    assert result.top_share >= 0.95 * unbounded.top_share
    assert result.saved >= 1.1 * lru.saved
