"""One fill per question, in virtual time; the last part compares random histories with the promises themselves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.cache import fills as fills_module
from services.cache.fill_values import Filled, Granted, InProgress, Pending
from services.cache.fills import Fills
from services.cache.flight import WaitResult
from services.cache.values import CommitResult
from services.chassis.errors import Aborted, Exhausted, NotFound
from tests.unit.cache.cache_parts import Clock, answer

LEASE = 30.0


@dataclass(frozen=True)
class Note:
    text: str = "draft"
    size: int = 10


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fills(clock: Clock) -> Fills[Note]:
    return Fills(duration=LEASE, monotonic=clock.monotonic, max_active=100)


def granted(result: object) -> Granted:
    assert isinstance(result, Granted)
    return result


def commit(fills: Fills[Note], lease_id: str, text: str = "an answer") -> CommitResult:
    lease = fills.held(lease_id)
    if lease.committed is None:
        fills.commit(lease, Filled(answer(text), "entry"), CommitResult("entry"))
    assert lease.committed is not None
    return lease.committed


async def waiting(fills: Fills[Note], clock: Clock, lease_id: str, token: str = "", seconds: float = 1e6):
    task = asyncio.create_task(fills.wait(lease_id, token, clock.mono + seconds))
    await settle()
    return task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_first_is_granted_and_others_learn_whose_it_is(fills: Fills[Note]) -> None:
    first = granted(fills.acquire("q", "a", Note()))
    assert fills.acquire("q", "b", Note()) == InProgress(first.lease_id)
    assert fills.acquire("q", "", Note()) == InProgress(first.lease_id)
    assert granted(fills.acquire("q", "a", Note())).lease_id == first.lease_id
    assert granted(fills.acquire("other", "b", Note())).lease_id != first.lease_id


async def test_callers_without_a_token_are_different_callers(fills: Fills[Note]) -> None:
    first = granted(fills.acquire("q", "", Note()))
    assert fills.acquire("q", "", Note()) == InProgress(first.lease_id)


async def test_a_commit_reaches_all_who_wait_and_who_come_late(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    tasks = [await waiting(fills, clock, lease.lease_id) for _ in range(3)]
    commit(fills, lease.lease_id, "made")
    for task in tasks:
        assert (await task).answer.text == "made"
    assert (await (await waiting(fills, clock, lease.lease_id))).answer.text == "made"
    assert fills.active == 0


async def test_an_abort_hands_the_lease_to_the_first_who_waits_only(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    first, second = [await waiting(fills, clock, lease.lease_id, str(n)) for n in range(2)]
    assert fills.abort(lease.lease_id)
    assert not fills.abort(lease.lease_id)
    heir = granted(await first)
    await settle()
    assert not second.done()
    assert heir.lease_id != lease.lease_id
    # The chain goes on by the id that the second has.
    fills.abort(heir.lease_id)
    last = granted(await second)
    commit(fills, last.lease_id)
    with pytest.raises(Aborted):
        fills.held(heir.lease_id)


async def test_a_lease_that_runs_out_goes_to_the_next(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    waiter = await waiting(fills, clock, lease.lease_id, "b")
    clock.advance(LEASE - 1)
    fills.expire()
    await settle()
    assert not waiter.done()
    clock.advance(1)
    fills.expire()
    heir = granted(await waiter)
    assert heir.expires == clock.mono + LEASE
    for late in (fills.renew, fills.held):
        with pytest.raises(Aborted):
            late(lease.lease_id)


async def test_a_renewed_lease_does_not_run_out(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    waiter = await waiting(fills, clock, lease.lease_id, "b")
    for _ in range(20):
        clock.advance(LEASE / 3)
        fills.renew(lease.lease_id)
        fills.expire()
    await settle()
    assert not waiter.done()
    commit(fills, lease.lease_id)
    assert isinstance(await waiter, Filled)


async def test_a_late_holder_may_commit_while_nobody_took_over(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    clock.advance(LEASE * 2)
    fills.expire()
    assert fills.active == 0
    assert commit(fills, lease.lease_id).stored


async def test_a_late_holder_may_renew_while_nobody_took_over(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    clock.advance(LEASE * 2)
    assert fills.renew(lease.lease_id).expires == clock.mono + LEASE
    assert fills.acquire("q", "b", Note()) == InProgress(lease.lease_id)


@pytest.mark.parametrize("successor_commits", [True, False])
async def test_a_late_holder_loses_to_whoever_took_over(
    fills: Fills[Note], clock: Clock, successor_commits: bool
) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    clock.advance(LEASE * 2)
    successor = granted(fills.acquire("q", "b", Note()))
    if successor_commits:
        commit(fills, successor.lease_id)
    with pytest.raises(Aborted):
        fills.held(lease.lease_id)


async def test_the_successor_brings_its_own_context(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note("old")))
    clock.advance(LEASE)
    successor = granted(fills.acquire("q", "b", Note("new")))
    assert successor.lease_id != lease.lease_id
    assert fills.context(successor.lease_id) == Note("new")


async def test_who_waits_for_a_fill_that_was_given_up_gets_it(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    fills.abort(lease.lease_id)
    heir = granted(await fills.wait(lease.lease_id, "b", clock.mono + 60))
    assert fills.acquire("q", "c", Note()) == InProgress(heir.lease_id)
    with pytest.raises(Aborted):
        fills.held(lease.lease_id)


async def test_aborting_a_lapsed_lease_gives_it_up_for_good(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    clock.advance(LEASE)
    fills.expire()
    assert fills.abort(lease.lease_id)
    with pytest.raises(Aborted):
        fills.held(lease.lease_id)


async def test_waiting_ends_as_pending_when_time_is_up(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    waiter = await waiting(fills, clock, lease.lease_id, seconds=5)
    clock.advance(5)
    fills.expire()
    assert await waiter == Pending()
    assert await fills.wait(lease.lease_id, "", clock.mono) == Pending()
    fills.abort(lease.lease_id)
    assert fills.active == 0, "who left must not inherit"


async def test_who_is_cancelled_does_not_inherit(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    first, second = [await waiting(fills, clock, lease.lease_id, str(n)) for n in range(2)]
    first.cancel()
    await settle()
    fills.abort(lease.lease_id)
    assert isinstance(await second, Granted)


async def test_who_is_cancelled_at_the_moment_of_inheriting_passes_it_on(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    first, second = [await waiting(fills, clock, lease.lease_id, str(n)) for n in range(2)]
    fills.abort(lease.lease_id)  # decided, but the first has not run yet
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert isinstance(await second, Granted)


async def test_a_repeated_wait_gets_the_lease_that_came_to_it(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    waiter = await waiting(fills, clock, lease.lease_id, "b")
    fills.abort(lease.lease_id)
    heir = granted(await waiter)
    again = granted(await fills.wait(lease.lease_id, "b", clock.mono + 60))
    assert again.lease_id == heir.lease_id


async def test_ended_leases_are_remembered_for_a_while_and_then_forgotten(fills: Fills[Note], clock: Clock) -> None:
    leases = [granted(fills.acquire(f"q{n}", "a", Note())).lease_id for n in range(3)]
    commit(fills, leases[0])
    fills.abort(leases[1])
    clock.advance(LEASE)
    fills.expire()
    assert commit(fills, leases[0]).entry_id == "entry"
    clock.advance(fills_module.REMEMBER_SECONDS)
    fills.expire()
    for lease_id in leases:
        with pytest.raises(NotFound):
            fills.context(lease_id)
    assert not any([fills._leases, fills._flights, fills._idle, fills._ended, fills._ended_bytes])


async def test_memory_of_ended_leases_is_bounded(
    fills: Fills[Note], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(fills_module, "REMEMBER_ENDED", 5)
    leases = [granted(fills.acquire(f"q{n}", "", Note())).lease_id for n in range(20)]
    for lease_id in leases:
        commit(fills, lease_id)
    fills.expire()
    known = [lease_id for lease_id in leases if lease_id in fills._leases]
    assert known == leases[-5:]
    monkeypatch.setattr(fills_module, "REMEMBER_BYTES", 1)
    fills.expire()
    assert not fills._leases


async def test_too_many_questions_in_flight_are_refused(clock: Clock) -> None:
    fills: Fills[Note] = Fills(duration=LEASE, monotonic=clock.monotonic, max_active=2)
    lease = granted(fills.acquire("a", "", Note()))
    fills.acquire("b", "", Note())
    with pytest.raises(Exhausted):
        fills.acquire("c", "", Note())
    assert isinstance(fills.acquire("a", "", Note()), InProgress)
    commit(fills, lease.lease_id)
    assert isinstance(fills.acquire("c", "", Note()), Granted)


async def test_a_server_that_stops_sends_away_who_waits(fills: Fills[Note], clock: Clock) -> None:
    lease = granted(fills.acquire("q", "a", Note()))
    waiter = await waiting(fills, clock, lease.lease_id)
    fills.dismiss()
    assert await waiter == Pending()
    assert await fills.wait(lease.lease_id, "", clock.mono + 60) == Pending()
    assert commit(fills, lease.lease_id).stored


async def test_run_wakes_for_what_is_due() -> None:
    loop = asyncio.get_running_loop()
    fills: Fills[Note] = Fills(duration=0.02, monotonic=loop.time, max_active=10)
    runner = asyncio.create_task(fills.run())
    await settle()
    lease = granted(fills.acquire("q", "a", Note()))
    async with asyncio.timeout(20):
        assert isinstance(await fills.wait(lease.lease_id, "b", loop.time() + 10), Granted)
        runner.cancel()
        with pytest.raises(asyncio.CancelledError):
            await runner


class Histories(RuleBasedStateMachine):
    """Many callers about one question, in any order: never two who may both commit, nobody left waiting for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.fills: Fills[Note] = Fills(duration=LEASE, monotonic=self.clock.monotonic, max_active=10)
        self.leases: list[str] = []
        self.waiters: list[asyncio.Task[WaitResult]] = []

    def teardown(self) -> None:
        for task in self.waiters:
            task.cancel()
        self.turn()
        self.loop.close()

    def turn(self) -> None:
        self.loop.run_until_complete(settle())
        for task in list(self.waiters):
            if task.done():
                self.waiters.remove(task)
                # A lease that was forgotten meanwhile is NOT_FOUND: the caller looks up again.
                known = not task.cancelled() and not isinstance(task.exception(), NotFound)
                if known and isinstance(result := task.result(), Granted):
                    self.leases.append(result.lease_id)

    @rule()
    def look(self) -> None:
        result = self.fills.acquire("q", "", Note())
        if isinstance(result, Granted):
            self.leases.append(result.lease_id)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        lease_id = data.draw(st.sampled_from(self.leases))
        seconds = data.draw(st.sampled_from([1.0, 20.0, 100.0]))
        self.waiters.append(self.loop.create_task(self.fills.wait(lease_id, "", self.clock.mono + seconds)))
        self.turn()

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiters)).cancel()
        self.turn()

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), how=st.sampled_from(["commit", "abort", "renew"]))
    def act(self, data: st.DataObject, how: str) -> None:
        lease_id = data.draw(st.sampled_from(self.leases))
        try:
            if how == "commit":
                commit(self.fills, lease_id)
            elif how == "abort":
                self.fills.abort(lease_id)
            else:
                self.fills.renew(lease_id)
        except (Aborted, NotFound):
            pass
        self.turn()

    @rule(seconds=st.sampled_from([1.0, LEASE / 2, LEASE, 10 * LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.fills.expire()
        self.turn()

    @invariant()
    def at_most_one_may_commit(self) -> None:
        may = [lease for lease in self.fills._leases.values() if lease.current]
        assert len({id(lease.flight) for lease in may}) == len(may) <= 1

    @invariant()
    def who_waits_waits_for_somebody(self) -> None:
        waiting = [task for task in self.waiters if not task.done()]
        flight = self.fills._flights.get("q")
        assert not waiting or (flight is not None and flight.lease is not None and flight.lease.current)
        assert flight is None or flight.lease is None or flight.lease.expires > self.clock.mono - 1e-9


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
