"""Several processes, one store, any order of requests, failures, crashes and departures: virtual time, no sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, InvalidRequest, Reason, Unavailable
from services.completion.background import Background
from services.completion.fills import Fill, Fills
from services.completion.idempotency.claims import Outside
from services.completion.idempotency.keys import Asked, Kept, Keys
from services.completion.idempotency.records import Record, Scope, Terms
from services.completion.ports import Outcome
from services.completion.result import CachePart, Completed, Delivered
from services.llm.values import Answer, FinishReason
from tests.unit.completion.completion_parts import MemoryRecords, ask

LEASE = 30.0
LONG = 1e9


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    async def pause(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._waiting.append((self.time + seconds, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """From one moment for which somebody waits to the next, as time passes for processes that live."""
        until = self.time + seconds
        while self.time < until:
            await quiet()
            self._waiting = [(at, woken) for at, woken in self._waiting if not woken.done()]
            self.time = max(self.time, min([until, *(at for at, _ in self._waiting)]))
            for at, woken in self._waiting:
                if at <= self.time:
                    woken.set_result(None)
        await quiet()


async def quiet() -> None:
    """Let everything happen that needs no time."""
    for _ in range(60):
        await asyncio.sleep(0)


@dataclass
class Wire:
    """A process's connection to the store: of a dead process no call arrives, and none returns."""

    store: MemoryRecords
    dead: bool = False

    async def insert(self, record: Record) -> bool:
        await self._travel()
        done = await self.store.insert(record)
        await self._travel()
        return done

    async def find(self, scope: Scope) -> Record | None:
        await self._travel()
        found = await self.store.find(scope)
        await self._travel()
        return found

    async def replace(self, record: Record, *, version: int) -> bool:
        await self._travel()
        done = await self.store.replace(record, version=version)
        await self._travel()
        return done

    async def free(self, scope: Scope, owner: str) -> None:
        await self._travel()
        await self.store.free(scope, owner)

    async def purge(self, now: float) -> None:
        await self._travel()
        await self.store.purge(now)

    async def _travel(self) -> None:
        if self.dead:
            await asyncio.Event().wait()
        await asyncio.sleep(0)


@dataclass
class World:
    """What is counted over all processes."""

    clock: Clock = field(default_factory=Clock)
    store: MemoryRecords = field(default_factory=MemoryRecords)
    begun: int = 0
    spoilt: int = 0
    """Calls of a model that a failure or a crash has cut."""
    bought: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    lost: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Answers that were bought by a process which died before it could store them, by key."""
    answers: dict[Scope, list[tuple[str, Kept]]] = field(default_factory=lambda: defaultdict(list))
    refused: list[tuple[Scope, str]] = field(default_factory=list)
    failed: int = 0
    names: itertools.count[int] = field(default_factory=itertools.count)


class Process:
    """One completion service: its fills and its keys. Its model answers when it is told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wire = Wire(world.store)
        self.open: list[asyncio.Future[None]] = []
        self.bought: list[str] = []
        self.callers: list[asyncio.Task[None]] = []
        self.fills = Fills(self._work, answer_limit=10_000, longest=LONG, joined=lambda _: None)
        self.background = Background(self._defect)
        self.keys = Keys(
            self.wire,
            self.fills,
            Terms(lease=LEASE, keep=86_400.0),
            longest=LONG,
            background=self.background,
            happened=lambda _: None,
            outside=Outside(world.clock.now, world.clock.pause, lambda: f"owner-{next(world.names)}"),
        )

    async def _work(self, fill: Fill) -> None:
        world = self.world
        if self.wire.dead:
            await asyncio.Event().wait()
        fill.transcript.calls()
        world.begun += 1
        answered = asyncio.get_running_loop().create_future()
        self.open.append(answered)
        try:
            await answered
        finally:
            self.open.remove(answered)
        if self.wire.dead:
            world.spoilt += 1
            raise Unavailable("nobody is there")
        question = fill.request.question.messages[-1].text
        text = f"{question} #{next(world.names)}"
        world.bought[question] += 1
        self.bought.append(question)
        fill.transcript.finish(Completed(Answer(text, FinishReason.STOP, "m"), CachePart(Outcome.MISS)))

    @staticmethod
    def _defect(work: str, error: BaseException) -> None:
        raise AssertionError(work) from error

    def ask(self, key: str, body: str) -> None:
        scope = Scope("acme", key)
        # The question names the key, so that what is bought is counted by key; fills are shared by equal ones.
        request = ask(f"{key} {body}")

        def write(delivered: Delivered, degraded: tuple[str, ...]) -> bytes:
            return repr((delivered.completed.answer.text, degraded)).encode()

        async def call() -> None:
            what = Asked(scope, body, request, f"c{next(self.world.names)}", write)
            try:
                with self.keys.join(what, Deadline(LONG, self.world.clock.now), streaming=False) as keyed:
                    kept = await keyed.result()
            except InvalidRequest as error:
                assert error.reason is Reason.IDEMPOTENCY_KEY_REUSED
                self.world.refused.append((scope, body))
            except AntiphonError:
                self.world.failed += 1
            else:
                if not self.wire.dead:
                    self.world.answers[scope].append((body, kept))

        self.callers.append(asyncio.create_task(call()))

    def answer(self, *, well: bool) -> None:
        """The model answers the oldest call, or fails."""
        if waiting := [call for call in self.open if not call.done()]:
            if well:
                waiting[0].set_result(None)
            else:
                self.world.spoilt += 1
                waiting[0].set_exception(Unavailable("down", reason=Reason.UPSTREAM_UNAVAILABLE))

    def crash(self) -> None:
        """Nothing of it is heard any more."""
        self.world.spoilt += len([call for call in self.open if not call.done()])
        for question in self.bought:
            key = question.partition(" ")[0]
            record = self.world.store.stored.get(Scope("acme", key))
            self.world.lost[key] += record is None or record.response is None
        self.wire.dead = True
        for caller in self.callers:
            caller.cancel()
        self.open = []

    async def end(self) -> None:
        """Take the remains away."""
        tasks = [caller for caller in self.callers if not caller.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.fills.close()
        await self.keys.settle(0.0)
        await self.background.drain(0.0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 2), st.sampled_from(["k1", "k2"]), st.sampled_from(["a", "b"])),
        st.tuples(st.sampled_from(["answer", "fail", "crash"]), st.integers(0, 2)),
        st.tuples(st.just("leave"), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 5.0, 40.0])),
        st.tuples(st.just("hurry")),
    ),
    max_size=20,
)


async def play(steps: list[tuple[object, ...]]) -> World:
    world = World()
    processes = [Process(world) for _ in range(3)]
    dead: list[Process] = []
    settle = True
    try:
        for step in steps:
            match step:
                case ("ask", int(which), str(key), str(body)):
                    processes[which].ask(key, body)
                case ("answer" | "fail" as how, int(which)):
                    processes[which].answer(well=how == "answer")
                case ("crash", int(which)):
                    processes[which].crash()
                    dead.append(processes[which])
                    processes[which] = Process(world)
                case ("leave", int(which), int(number)) if number < len(processes[which].callers):
                    processes[which].callers[number].cancel()
                case ("wait", float(seconds)):
                    await world.clock.advance(seconds)
                case ("hurry",):
                    # What follows meets everything before it half done.
                    settle = not settle
            if settle:
                await quiet()
            else:
                await asyncio.sleep(0)
        # At last every model answers, and every lease of the dead runs out.
        for _ in range(6):
            await world.clock.advance(LEASE / 2)
            for process in processes:
                while process.open:
                    process.answer(well=True)
                    await quiet()
        assert all(caller.done() for process in processes for caller in process.callers)
        for process in processes:
            assert len(process.keys) == 0
    finally:
        for process in (*processes, *dead):
            await process.end()
    return world


@pytest.mark.fault(12)
@pytest.mark.fault(13)
@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_a_key_has_one_answer_whatever_happens(steps: list[tuple[object, ...]]) -> None:
    world = asyncio.run(play(steps))
    for scope, answers in world.answers.items():
        assert len({kept.response for _, kept in answers}) == 1, "the same answer for all"
        bodies = {body for body, _ in answers}
        assert len(bodies) == 1, "and of one request only"
        response = answers[0][1].response.decode()
        assert response.startswith(f"('{scope.key} {bodies.pop()} #")
        assert "idempotency_not_kept" not in response
        assert sum(not kept.replayed for _, kept in answers) <= 1
    assert world.begun <= sum(world.bought.values()) + world.spoilt
    for key in ("k1", "k2"):
        assert sum(count for text, count in world.bought.items() if text.startswith(key)) <= 1 + world.lost[key]


@pytest.mark.fault(12)
async def test_another_process_takes_over_when_the_lease_of_a_dead_one_is_out() -> None:
    world = World()
    first, second = Process(world), Process(world)
    try:
        first.ask("k1", "a")
        await quiet()
        assert len(first.open) == 1
        first.crash()
        second.ask("k1", "a")
        await world.clock.advance(LEASE * 0.9)
        assert second.open == [], "the lease still runs"
        await world.clock.advance(LEASE * 0.2)
        assert len(second.open) == 1
        second.answer(well=True)
        await quiet()
        assert len(world.answers[Scope("acme", "k1")]) == 1
    finally:
        await second.end()
        await first.end()


@pytest.mark.fault(12)
async def test_nobody_takes_over_from_the_living() -> None:
    world = World()
    first, second = Process(world), Process(world)
    try:
        first.ask("k1", "a")
        await quiet()
        second.ask("k1", "a")
        await world.clock.advance(LEASE * 5)
        assert (len(first.open), len(second.open)) == (1, 0)
        first.answer(well=True)
        await world.clock.advance(2.0)
        answers = world.answers[Scope("acme", "k1")]
        assert [kept.replayed for _, kept in answers] == [False, True]
        assert len({kept.response for _, kept in answers}) == 1
    finally:
        await second.end()
        await first.end()
