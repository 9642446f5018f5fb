"""Parts for tests of the completion domain: a cache and a router in memory, and models that do as they are told."""

from __future__ import annotations

import asyncio
import io
import itertools
import random
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from services.catalogue.catalogue import Catalogue
from services.catalogue.tokens import TokenCounter
from services.chassis.auth.values import ANYONE, Caller
from services.chassis.deadline import Deadline
from services.chassis.errors import AntiphonError, Reason, Unavailable
from services.chassis.telemetry import Telemetry
from services.completion.calling import Servers
from services.completion.fills import Listener
from services.completion.idempotency.records import Record, Scope
from services.completion.ports import (
    CallReport,
    Candidate,
    Committed,
    Embedding,
    EntryVerdict,
    Filled,
    Found,
    Lease,
    ListedModel,
    Outcome,
    Report,
    Routing,
    ServedFrom,
    VerdictReport,
)
from services.completion.request import CacheMode, CachePolicy, Question, Request
from services.completion.result import Delivered
from services.completion.service import CompletionService, Timing
from services.completion.settings import CompletionSettings
from services.completion.storing import may_be_stored
from services.completion.upstreams.protocol import ChatEvent, ChatRequest, Finish, TextDelta, UsageReport
from services.llm.values import Answer, FinishReason, Message, Role, TextPart, Usage

USAGE = Usage(10, output=5)
"""What a scripted call takes unless its script says otherwise."""

GUARD = 10.0
"""Seconds after which a state that a test waits for will not come."""

CATALOGUE = """
include_default = false

[upstreams.one]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
{timeouts}

[upstreams.two]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"

[models.small]
upstream = "one"
upstream_model = "small-there"
aliases = ["little"]
context_tokens = 1_000
max_output_tokens = 500
capabilities = ["streaming"]
[models.small.prices]
input = "1.00"
output = "2.00"
date = 2026-01-01
[models.small.latency]
first_token_seconds = 0.1
tokens_per_second = 100
[models.small.quality]
tier = "simple"

[models.large]
upstream = "two"
context_tokens = 10_000
max_output_tokens = 5_000
capabilities = ["streaming", "tools"]
[models.large.prices]
input = "10.00"
output = "20.00"
date = 2026-01-01
[models.large.latency]
first_token_seconds = 0.5
tokens_per_second = 50
[models.large.quality]
tier = "complex"
"""


async def until(true: Callable[[], bool], *, guard: float = GUARD) -> None:
    """Wait for a state, at most `guard` seconds."""
    async with asyncio.timeout(guard):
        while not true():  # noqa: ASYNC110 -- a state of the tested parts, which set no event for tests
            await asyncio.sleep(0.001)


def ask(
    text: str = "What is a leap year?",
    *,
    model: str = "",
    key: bytes | None = None,
    policy: CachePolicy | None = None,
    caller: Caller = ANYONE,
) -> Request:
    """Return a request; equal arguments share a fill."""
    policy = policy or CachePolicy()
    question = Question(messages=(Message(Role.USER, (TextPart(text),)),), model=model)
    key = key or repr((caller.tenant, text, model, policy)).encode()
    return Request(key=key, question=question, caller=caller, policy=policy)


def words(
    *pieces: str, finish: FinishReason | None = FinishReason.STOP, usage: Usage | None = USAGE
) -> list[ChatEvent]:
    """Return the events of a whole answer."""
    events: list[ChatEvent] = [TextDelta(piece) for piece in pieces]
    if finish is not None:
        events.append(Finish(finish))
    if usage is not None:
        events.append(UsageReport(usage))
    return events


Step = ChatEvent | asyncio.Event | AntiphonError


class ScriptedUpstream:
    """Plays one script per call: yields events, waits where an `asyncio.Event` stands, raises errors."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.default: Sequence[Step] = words("An ", "answer.")
        self.scripts: deque[Sequence[Step]] = deque()
        self.requests: list[ChatRequest] = []
        self.timeouts: list[float] = []
        self.open = 0
        self.closed_early = 0

    @property
    def calls(self) -> int:
        return len(self.requests)

    async def stream(
        self, request: ChatRequest, *, timeout: float, connect_timeout: float | None = None
    ) -> AsyncGenerator[Sequence[ChatEvent], None]:
        self.requests.append(request)
        self.timeouts.append(timeout)
        self.open += 1
        whole = False
        try:
            for step in self.scripts.popleft() if self.scripts else self.default:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, AntiphonError):
                    raise step
                else:
                    yield (step,)
            whole = True
        finally:
            self.open -= 1
            self.closed_early += not whole

    async def aclose(self) -> None:
        """Nothing to close."""


@dataclass
class MemoryCache:
    """Exact tier and fills, as the cache promises them. `error` is raised by every call while it is set."""

    lease_duration: float = 30.0
    error: AntiphonError | None = None
    commit_error: AntiphonError | None = None
    renew_error: AntiphonError | None = None
    hold: asyncio.Event | None = None
    """Lookups wait for it."""
    healthy: bool = True
    found: deque[Found] = field(default_factory=deque)
    """Returned by lookups before anything else."""
    waits: deque[Filled | Lease | AntiphonError | None] = field(default_factory=deque)
    stored: dict[tuple[str, str, str], Answer] = field(default_factory=dict)
    lookups: list[tuple[Question, CachePolicy, str]] = field(default_factory=list)
    puts: list[Answer] = field(default_factory=list)
    commits: list[tuple[str, Answer]] = field(default_factory=list)
    aborts: list[tuple[str, str]] = field(default_factory=list)
    audits: list[tuple[str, Answer]] = field(default_factory=list)
    calls: list[tuple[str, Caller]] = field(default_factory=list)
    """Every call and whom it served."""
    verdicts: list[EntryVerdict] = field(default_factory=list)
    renewals: int = 0
    waited: int = 0
    _ids: itertools.count[int] = field(default_factory=itertools.count)
    _leases: dict[str, Question] = field(default_factory=dict)

    @property
    def open_leases(self) -> int:
        return len(self._leases)

    def grant(self, question: Question) -> Lease:
        lease = Lease(f"lease-{next(self._ids)}", self.lease_duration)
        self._leases[lease.id] = question
        return lease

    async def lookup(
        self, caller: Caller, question: Question, policy: CachePolicy, fill_token: str, *, timeout: float
    ) -> Found:
        self.calls.append(("lookup", caller))
        self.lookups.append((question, policy, fill_token))
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        if self.found:
            return self.found.popleft()
        answer = None if policy.mode is CacheMode.REFRESH else self.stored.get(_place(caller, question))
        if answer is not None:
            served = ServedFrom(answer.usage, answer.cost)
            return Found(Outcome.EXACT, answer=answer, entry_id="entry", served_from=served)
        if policy.mode is CacheMode.ONLY_IF_CACHED:
            return Found(Outcome.MISS)
        return Found(Outcome.MISS, lease=self.grant(question), embedding=Embedding(b"\0" * 4, "test"))

    async def wait_fill(
        self, caller: Caller, lease_id: str, fill_token: str, *, timeout: float
    ) -> Filled | Lease | None:
        self.calls.append(("wait_fill", caller))
        self.waited += 1
        result = self.waits.popleft()
        if isinstance(result, AntiphonError):
            raise result
        return result

    async def renew(self, caller: Caller, lease_id: str, *, timeout: float) -> Lease:
        self.calls.append(("renew", caller))
        self.renewals += 1
        if self.renew_error is not None:
            raise self.renew_error
        return Lease(lease_id, self.lease_duration)

    async def commit(self, caller: Caller, lease_id: str, answer: Answer, *, timeout: float) -> Committed:
        self.calls.append(("commit", caller))
        if self.commit_error is not None:
            raise self.commit_error
        self.commits.append((lease_id, answer))
        question = self._leases.pop(lease_id)
        if not may_be_stored(answer):
            return Committed(reason="finish_reason")
        self.stored[_place(caller, question)] = answer
        return Committed("entry", stored=True)

    async def abort(self, caller: Caller, lease_id: str, reason: str, *, timeout: float) -> None:
        self.calls.append(("abort", caller))
        self.aborts.append((lease_id, reason))
        self._leases.pop(lease_id, None)

    async def put(
        self, caller: Caller, question: Question, answer: Answer, policy: CachePolicy, *, timeout: float
    ) -> str:
        self.calls.append(("put", caller))
        if self.error is not None:
            raise self.error
        self.puts.append(answer)
        self.stored[_place(caller, question)] = answer
        return "entry"

    async def feedback(self, caller: Caller, verdict: EntryVerdict, *, timeout: float) -> bool:
        self.calls.append(("feedback", caller))
        if self.error is not None:
            raise self.error
        self.verdicts.append(verdict)
        return self.verdicts.count(verdict) == 1

    async def report_audit(self, caller: Caller, audit_id: str, answer: Answer, *, timeout: float) -> None:
        self.calls.append(("report_audit", caller))
        if self.error is not None:
            raise self.error
        self.audits.append((audit_id, answer))

    async def store_healthy(self, *, timeout: float) -> bool:
        if self.error is not None:
            raise self.error
        return self.healthy


def _place(caller: Caller, question: Question) -> tuple[str, str, str]:
    return caller.tenant, question.model, question.messages[-1].text


@dataclass
class MemoryRouter:
    """Answers with `candidates`, or the explicit model. `error` is raised by every call while it is set."""

    candidates: tuple[str, ...] = ("small", "large")
    error: AntiphonError | None = None
    requests: list[tuple[Request, Embedding | None]] = field(default_factory=list)
    reports: list[CallReport] = field(default_factory=list)
    verdicts: list[VerdictReport] = field(default_factory=list)
    listed: tuple[ListedModel, ...] = ()

    async def route(self, request: Request, embedding: Embedding | None, *, timeout: float) -> Routing:
        self.requests.append((request, embedding))
        if self.error is not None:
            raise self.error
        names = (request.question.model,) if request.question.model else self.candidates
        return Routing(tuple(Candidate(name, "") for name in names), decision_id=f"decision-{len(self.requests)}")

    async def list_models(self, *, timeout: float) -> Sequence[ListedModel]:
        if self.error is not None:
            raise self.error
        return self.listed

    async def record(self, caller: Caller, reports: Sequence[Report], *, timeout: float) -> int:
        if self.error is not None:
            raise self.error
        for report in reports:
            assert report.caller == caller
            if isinstance(report, VerdictReport):
                self.verdicts.append(report)
            else:
                self.reports.append(report)
        return 0


@dataclass
class MemoryRecords:
    """Idempotency keys as the store keeps them. `error` is raised by every call while it is set."""

    stored: dict[Scope, Record] = field(default_factory=dict)
    error: AntiphonError | None = None
    calls: int = 0

    async def insert(self, record: Record) -> bool:
        await self._call()
        return self.stored.setdefault(record.scope, record) == record

    async def find(self, scope: Scope) -> Record | None:
        await self._call()
        return self.stored.get(scope)

    async def replace(self, record: Record, *, version: int) -> bool:
        await self._call()
        found = self.stored.get(record.scope)
        if found is not None and found.version == version:
            self.stored[record.scope] = record
        return self.stored.get(record.scope) == record

    async def free(self, scope: Scope, owner: str) -> None:
        await self._call()
        found = self.stored.get(scope)
        if found is not None and found.owner == owner:
            del self.stored[scope]

    async def purge(self, now: float) -> None:
        await self._call()
        for scope in [scope for scope, record in self.stored.items() if record.expires_at < now]:
            del self.stored[scope]

    async def _call(self) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error


@dataclass
class Rig:
    """A running service with its surroundings."""

    service: CompletionService
    cache: MemoryCache
    router: MemoryRouter
    records: MemoryRecords
    one: ScriptedUpstream
    two: ScriptedUpstream
    telemetry: Telemetry
    spent: list[tuple[str, int]]
    """Key ids and the tokens that calls for them took."""

    @property
    def calls(self) -> int:
        """Calls of models."""
        return self.one.calls + self.two.calls

    def join(self, request: Request | None = None, *, seconds: float = GUARD, streaming: bool = False) -> Listener:
        return self.service.fills.join(request or ask(), Deadline.after(seconds), streaming=streaming)

    async def complete(self, request: Request | None = None, *, seconds: float = GUARD) -> Delivered:
        with self.join(request, seconds=seconds) as listener:
            return await listener.result()

    async def settled(self) -> None:
        """Wait until nothing goes on behind the callers' backs."""
        await until(lambda: not len(self.service.storing) and not len(self.service.reporting))

    def counted(self, name: str, **labels: str) -> float:
        """The value of a counter."""
        return self.telemetry.registry.get_sample_value(f"antiphon_completion_{name}_total", labels) or 0.0


@asynccontextmanager
async def rig(*, timeouts: str = "", timing: Timing | None = None, **settings: object) -> AsyncIterator[Rig]:
    """Run a service whose models are `small` (of upstream `one`) and `large` (of `two`)."""
    catalogue = Catalogue.parse(CATALOGUE.format(timeouts=timeouts), {})
    cache, router, records = MemoryCache(), MemoryRouter(), MemoryRecords()
    one, two = ScriptedUpstream("one"), ScriptedUpstream("two")
    telemetry = Telemetry("completion", stream=io.BytesIO())
    spent: list[tuple[str, int]] = []
    service = CompletionService(
        CompletionSettings.model_validate({"lookup_timeout": 5.0, "settle_time": 1.0, **settings}),
        telemetry,
        cache=cache,
        router=router,
        catalogue=catalogue,
        counter=TokenCounter.for_catalogue(catalogue),
        servers=Servers(catalogue.upstreams, {"one": one, "two": two}),
        spent=lambda key_id, tokens: spent.append((key_id, tokens)),
        records=records,
        timing=timing or Timing(rng=random.Random(1)),
    )
    try:
        async with service.running():
            yield Rig(service, cache, router, records, one, two, telemetry, spent)
    finally:
        telemetry.close()


def down(reason: Reason = Reason.UPSTREAM_UNAVAILABLE) -> Unavailable:
    """Return what a part raises that does not answer."""
    return Unavailable("it is down", reason=reason)


def answered(text: str = "Made elsewhere.", **changes: object) -> Answer:
    """Return an answer that somebody else has made."""
    answer = Answer(text, FinishReason.STOP, "small", usage=Usage(7, output=3))
    return replace(answer, **changes)  # type: ignore[arg-type]
