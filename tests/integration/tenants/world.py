"""The real services as several tenants use them at once, and the model that every response is held against.

Safety: an answer, an entry, a lease or a decision of one scope is never seen in another. Integrity: what a tenant has
stored is there until the tenant itself removes it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from google.protobuf.message import Message

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon.router.v1 import router_pb2
from antiphon_client import AntiphonError, AsyncCacheClient, AsyncCompletionClient, AsyncRouterClient
from services.chassis.auth.values import Role
from tests.fakes import behaviours
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.tenants.scopes import QUESTIONS, SCOPES, Scope, Seen
from tests.integration.tenants.tenancy import Tenancy
from tests.suite_process import SuiteProcess

SECONDS = 60.0
"""For one call; nothing here takes long, but the machine may be busy."""

SPARE_ANSWERS = 64
"""Texts that the models have ready: more than operations that run at once, each of which calls a model once at most."""

RECENT = 100
"""Entries and decisions that an operation chooses from."""

TAG = "tagged"

Entry = tuple[str, Scope]
"""An id and whose it is."""


class Kind(StrEnum):
    """What is done."""

    COMPLETE = "complete"
    STREAM = "stream"
    LEAVE = "leave"
    """A stream that is not read to its end."""
    LOOKUP = "lookup"
    PUT = "put"
    FILL = "fill"
    """A lookup, and, if it grants the fill, the answer."""
    ABORT = "abort"
    DELETE = "delete"
    """An entry by its id, anybody's."""
    DELETE_TAG = "delete tag"
    CLEAR = "clear"
    REPORT = "report"
    """On a decision, anybody's."""
    BATCH = "batch"
    """Lookups of both wordings of every question."""
    FEEDBACK = "feedback"
    """On an entry, anybody's."""
    SUBMIT = "submit"
    """Feedback on a completion, anybody's."""
    EXPLAIN = "explain"
    LIST = "list"
    """A page of a namespace's entries."""
    AUDIT = "audit"
    """The report of an audit that a lookup asked for, anybody's."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of one caller. `other` chooses among what was seen so far; `wording` is 0 or 1."""

    kind: Kind
    scope: Scope
    question: int
    wording: int
    other: int


class World:
    """Made by `opened`; `do` runs operations at once and checks what they return."""

    def __init__(self, upstream: FakeOpenAI) -> None:
        self.seen = Seen()
        self.done: Counter[Kind] = Counter()
        self.outcomes: Counter[int] = Counter()
        self.refused = 0
        """Attempts on what belongs to another tenant."""
        self._upstream = upstream
        self._completion: dict[str, AsyncCompletionClient] = {}
        self._operator: dict[str, AsyncCacheClient] = {}
        self._service: AsyncCacheClient
        self._router: AsyncRouterClient
        self._stored: dict[tuple[Scope, str], str] = {}
        """Entry ids of what must be found, by question."""
        self._entries: deque[Entry] = deque(maxlen=RECENT)
        self._decisions: deque[tuple[str, str]] = deque(maxlen=RECENT)
        self._completions: deque[tuple[str, str]] = deque(maxlen=RECENT)
        self._audits: deque[tuple[str, str, llm_pb2.Answer]] = deque(maxlen=RECENT)
        """Ids of audits, whose they are, and what was served."""
        self.audited = 0
        """Reports that counted."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, suite: SuiteProcess, upstream: FakeOpenAI, tenancy: Tenancy) -> AsyncIterator[World]:
        """Connect a client and an operator of every tenant, and a service."""
        world = cls(upstream)
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            for tenant in tenancy.tenants:
                client, operator = tenancy.key(tenant, Role.CLIENT), tenancy.key(tenant, Role.OPERATOR)
                world._completion[tenant] = await enter(
                    AsyncCompletionClient(suite.address("completion"), api_key=client)
                )
                world._operator[tenant] = await enter(AsyncCacheClient(suite.address("cache"), api_key=operator))
            service = tenancy.service.text
            world._service = await enter(AsyncCacheClient(suite.address("cache"), api_key=service))
            world._router = await enter(AsyncRouterClient(suite.address("router"), api_key=service))
            yield world

    async def reset(self) -> None:
        """Empty every namespace, so that what follows does not depend on what was before."""
        spaces = dict.fromkeys((scope.tenant, scope.namespace) for scope in SCOPES)
        for tenant, namespace in spaces:
            await self._operator[tenant].clear(cache_pb2.ClearRequest(namespace=namespace), timeout=SECONDS)
        self._stored.clear()
        self._entries.clear()

    async def do(self, operations: Sequence[Operation]) -> None:
        """Run operations at once; raises `Leak` or `AssertionError`."""
        entries = [self._entry(operation) for operation in operations]
        removing = {
            _space(entry[1] if operation.kind is Kind.FEEDBACK and entry else operation.scope)
            for operation, entry in zip(operations, entries, strict=True)
            if _removes(operation, entry)
        }
        self._stored = {key: i for key, i in self._stored.items() if _space(key[0]) not in removing}
        must = dict(self._stored)
        self._upstream.calls.clear()
        while len(self._upstream.queue) < SPARE_ANSWERS:
            self._upstream.enqueue(behaviours.answering(self.seen.unclaimed()))
        async with asyncio.TaskGroup() as group:
            for operation, entry in zip(operations, entries, strict=True):
                group.create_task(self._one(operation, entry, must, removing))
        self.done.update(operation.kind for operation in operations)

    async def _one(
        self, o: Operation, entry: Entry | None, must: Mapping[tuple[Scope, str], str], removing: set[tuple[str, str]]
    ) -> None:
        match o.kind:
            case Kind.COMPLETE:
                await self._complete(o)
            case Kind.STREAM | Kind.LEAVE:
                await self._stream(o)
            case Kind.LOOKUP:
                await self._lookup(o, expected=must.get((o.scope, _text(o))))
            case Kind.PUT:
                await self._put(o, kept=_space(o.scope) not in removing)
            case Kind.FILL | Kind.ABORT:
                await self._fill(o, kept=_space(o.scope) not in removing)
            case Kind.DELETE:
                if entry is not None:
                    await self._delete(o, *entry)
            case Kind.DELETE_TAG | Kind.CLEAR:
                await self._empty(o)
            case Kind.REPORT:
                await self._report(o)
            case Kind.BATCH:
                await self._batch(o, must)
            case Kind.FEEDBACK:
                if entry is not None:
                    await self._feedback(o, *entry)
            case Kind.SUBMIT:
                await self._submit(o)
            case Kind.EXPLAIN:
                await self._explain(o)
            case Kind.LIST:
                await self._list(o)
            case Kind.AUDIT:
                await self._audit(o)

    async def _complete(self, o: Operation) -> None:
        response = await self._completion[o.scope.tenant].complete(_asked(o), timeout=SECONDS)
        self._answered(o.scope, response.info)
        self.seen.look(o.scope, response)

    async def _stream(self, o: Operation) -> None:
        wanted = completion_pb2.StreamCompleteRequest(request=_asked(o))
        async with self._completion[o.scope.tenant].stream(wanted.request, timeout=SECONDS) as events:
            async for event in events:
                self.seen.look(o.scope, event)
                if event.HasField("finished"):
                    self._answered(o.scope, event.finished.info)
                if o.kind is Kind.LEAVE:
                    return

    async def _batch(self, o: Operation, must: Mapping[tuple[Scope, str], str]) -> None:
        policy = cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_ONLY_IF_CACHED)
        each = [replace(o, question=number, wording=wording) for number in range(len(QUESTIONS)) for wording in (0, 1)]
        lookups = [cache_pb2.LookupRequest(query=_query(one), policy=policy) for one in each]
        request = cache_pb2.BatchLookupRequest(lookups=lookups)
        response = await self._service.batch_lookup(request, timeout=SECONDS, metadata=_for(o.scope.tenant))
        self.seen.look(o.scope, response)
        for one, result in zip(each, response.results, strict=True):
            if (expected := must.get((o.scope, _text(one)))) is not None:
                assert result.response.entry_id == expected, f"{one}: what was stored is gone"

    async def _feedback(self, o: Operation, entry_id: str, owner: Scope) -> None:
        request = cache_pb2.FeedbackRequest(
            entry_id=entry_id,
            verdict=cache_pb2.VERDICT_RIGHT if o.other % 3 == 0 else cache_pb2.VERDICT_WRONG,
            source=cache_pb2.FEEDBACK_SOURCE_OPERATOR if o.wording else cache_pb2.FEEDBACK_SOURCE_USER,
            user=f"user {o.other}",
        )
        call = self._operator[o.scope.tenant].feedback(request, timeout=SECONDS)
        if owner.tenant != o.scope.tenant:
            await self._refused(call)
        else:
            await _found_or_gone(call)

    async def _submit(self, o: Operation) -> None:
        if not self._completions:
            return
        completion_id, owner = self._completions[-1 - o.other % len(self._completions)]
        client = self._completion[o.scope.tenant]
        call = client.submit_feedback(completion_id, right=o.wording == 0, timeout=SECONDS)
        if owner == o.scope.tenant:
            await _found_or_gone(call)
        else:
            await self._refused(call)

    async def _explain(self, o: Operation) -> None:
        request = cache_pb2.ExplainRequest(query=_query(o), limit=50)
        response = await self._operator[o.scope.tenant].explain(request, timeout=SECONDS)
        self.seen.look(o.scope, response)

    async def _list(self, o: Operation) -> None:
        request = cache_pb2.ListEntriesRequest(
            namespace=o.scope.namespace, quarantined=None if o.other % 3 else bool(o.wording), page_size=1_000
        )
        page = await self._operator[o.scope.tenant].list_entries(request, timeout=SECONDS)
        for entry in page.entries:
            # A namespace has several scopes: each entry is held against the one that it was seen in.
            assert _space(self.seen.ids.get(entry.entry_id, o.scope)) == _space(o.scope), f"{o}: another's is listed"

    async def _audit(self, o: Operation) -> None:
        if not self._audits:
            return
        audit_id, owner, served = self._audits[-1 - o.other % len(self._audits)]
        request = cache_pb2.ReportAuditRequest(audit_id=audit_id, answer=served)
        done = await self._service.report_audit(request, timeout=SECONDS, metadata=_for(o.scope.tenant))
        if owner == o.scope.tenant:
            self.audited += done.counted
        else:
            assert not done.counted, f"{o}: another's audit was taken"
            self.refused += 1

    def _answered(self, scope: Scope, info: completion_pb2.CompletionInfo) -> None:
        self._completions.append((info.completion_id, scope.tenant))
        self.outcomes[info.cache.outcome] += 1
        if info.route.decision_id:
            self._decisions.append((info.route.decision_id, scope.tenant))
        if info.cache.entry_id:
            self._entries.append((info.cache.entry_id, scope))

    async def _lookup(self, o: Operation, expected: str | None) -> None:
        policy = cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_ONLY_IF_CACHED)
        response = await self._look(o, cache_pb2.LookupRequest(query=_query(o), policy=policy))
        self.outcomes[response.outcome] += 1
        if expected is not None:
            assert response.outcome == cache_pb2.OUTCOME_EXACT, f"{o}: what was stored is gone"
            assert response.entry_id == expected

    async def _look(self, o: Operation, request: cache_pb2.LookupRequest) -> cache_pb2.LookupResponse:
        if o.other % 2:
            response = await self._operator[o.scope.tenant].lookup(request, timeout=SECONDS)
        else:
            response = await self._service.lookup(request, timeout=SECONDS, metadata=_for(o.scope.tenant))
        self.seen.look(o.scope, response)
        if response.audit_id:
            self._audits.append((response.audit_id, o.scope.tenant, response.answer))
        return response

    async def _put(self, o: Operation, *, kept: bool) -> None:
        request = cache_pb2.PutRequest(
            query=_query(o),
            answer=self._canary(o.scope),
            policy=cache_pb2.CachePolicy(tags=[TAG] if o.other % 3 == 0 else []),
            durable=o.other % 4 == 0,
        )
        response = await self._service.put(request, timeout=SECONDS, metadata=_for(o.scope.tenant))
        self._keep(o, response, response.entry_id, kept=kept)

    async def _fill(self, o: Operation, *, kept: bool) -> None:
        found = await self._look(o, cache_pb2.LookupRequest(query=_query(o), fill_token=uuid.uuid4().hex))
        if found.fill.WhichOneof("state") != "granted":
            return
        lease_id, mine = found.fill.granted.id, _for(o.scope.tenant)
        await self._meddle(o, lease_id)
        if o.kind is Kind.ABORT:
            await self._service.abort(cache_pb2.AbortRequest(lease_id=lease_id), timeout=SECONDS, metadata=mine)
            return
        request = cache_pb2.CommitRequest(lease_id=lease_id, answer=self._canary(o.scope))
        done = await self._service.commit(request, timeout=SECONDS, metadata=mine)
        self._keep(o, done, done.entry_id, kept=kept and done.stored)

    async def _meddle(self, o: Operation, lease_id: str) -> None:
        """Let another tenant try to use the lease; its holder notices nothing of it."""
        stranger = _for(_another(o))
        answer = llm_pb2.Answer(text="from a stranger", finish_reason=llm_pb2.FINISH_REASON_STOP, model="small")
        service, leased = self._service, {"lease_id": lease_id}
        attempts: list[Coroutine[None, None, Message]] = [
            service.renew_fill(cache_pb2.RenewFillRequest(**leased), timeout=SECONDS, metadata=stranger),
            service.wait_fill(cache_pb2.WaitFillRequest(**leased), timeout=SECONDS, metadata=stranger),
            service.commit(cache_pb2.CommitRequest(answer=answer, **leased), timeout=SECONDS, metadata=stranger),
        ]
        await self._refused(attempts[o.other % 3], but=attempts)
        # Giving up what one does not have changes nothing, whether it exists or not.
        await service.abort(cache_pb2.AbortRequest(**leased), timeout=SECONDS, metadata=stranger)

    async def _delete(self, o: Operation, entry_id: str, owner: Scope) -> None:
        request = cache_pb2.DeleteRequest(namespace=o.scope.namespace, entry_ids=cache_pb2.EntryIds(ids=[entry_id]))
        call = self._operator[o.scope.tenant].delete(request, timeout=SECONDS)
        if _space(owner) != _space(o.scope):
            await self._refused(call)
            return
        await _found_or_gone(call)

    async def _empty(self, o: Operation) -> None:
        operator, namespace = self._operator[o.scope.tenant], o.scope.namespace
        if o.kind is Kind.CLEAR:
            await operator.clear(cache_pb2.ClearRequest(namespace=namespace), timeout=SECONDS)
        else:
            tags = cache_pb2.Tags(tags=[TAG])
            await operator.delete(cache_pb2.DeleteRequest(namespace=namespace, tags=tags), timeout=SECONDS)

    async def _report(self, o: Operation) -> None:
        if not self._decisions:
            return
        decision_id, owner = self._decisions[-1 - o.other % len(self._decisions)]
        request = router_pb2.RecordOutcomeRequest(
            decision_id=decision_id,
            kind=router_pb2.OUTCOME_KIND_VERDICT,
            source="test",
            verdict=router_pb2.VERDICT_GOOD,
        )
        call = self._router.record_outcome(request, timeout=SECONDS, metadata=_for(o.scope.tenant))
        if owner == o.scope.tenant:
            await call
        else:
            await self._refused(call)

    async def _refused(
        self, call: Coroutine[None, None, Message], *, but: Sequence[Coroutine[None, None, Message]] = ()
    ) -> None:
        for other in but:
            if other is not call:
                other.close()
        try:
            await call
        except AntiphonError as error:
            assert error.code.name == "NOT_FOUND", error
            self.refused += 1
        else:
            raise AssertionError("what belongs to another tenant was found")

    def _canary(self, scope: Scope) -> llm_pb2.Answer:
        return llm_pb2.Answer(
            text=self.seen.canary(scope), finish_reason=llm_pb2.FINISH_REASON_STOP, model=scope.model or "small"
        )

    def _keep(self, o: Operation, response: Message, entry_id: str, *, kept: bool) -> None:
        self.seen.look(o.scope, response)
        if kept:
            self._stored[o.scope, _text(o)] = entry_id
            self._entries.append((entry_id, o.scope))

    def _entry(self, o: Operation) -> Entry | None:
        return self._entries[-1 - o.other % len(self._entries)] if self._entries else None


def _removes(o: Operation, entry: Entry | None) -> bool:
    """Whether an operation takes away something of its own namespace."""
    if o.kind is Kind.DELETE:
        return entry is not None and _space(entry[1]) == _space(o.scope)
    if o.kind is Kind.FEEDBACK:
        return entry is not None and entry[1].tenant == o.scope.tenant
    return o.kind in {Kind.DELETE_TAG, Kind.CLEAR}


async def _found_or_gone(call: Coroutine[None, None, Message]) -> None:
    """What one's own operation may come to while others delete."""
    try:
        await call
    except AntiphonError as error:
        assert error.code.name == "NOT_FOUND", error


def _space(scope: Scope) -> tuple[str, str]:
    return scope.tenant, scope.namespace


def _another(o: Operation) -> str:
    others = sorted({scope.tenant for scope in SCOPES} - {o.scope.tenant})
    return others[o.other % len(others)]


def _for(tenant: str) -> tuple[tuple[str, str], ...]:
    return (("x-antiphon-tenant", tenant), ("x-antiphon-key-id", "of-the-test"))


def _text(o: Operation) -> str:
    return QUESTIONS[o.question][o.wording]


def _messages(o: Operation) -> list[llm_pb2.Message]:
    roles = ((llm_pb2.ROLE_SYSTEM, o.scope.system), (llm_pb2.ROLE_USER, _text(o)))
    return [llm_pb2.Message(role=role, parts=[llm_pb2.ContentPart(text=text)]) for role, text in roles if text]


def _asked(o: Operation) -> completion_pb2.CompleteRequest:
    return completion_pb2.CompleteRequest(
        messages=_messages(o), model=o.scope.model, namespace=o.scope.namespace, request_id=f"request {o.other}"
    )


def _query(o: Operation) -> cache_pb2.Query:
    return cache_pb2.Query(messages=_messages(o), model=o.scope.model, namespace=o.scope.namespace)
