"""Who may call what: every method of every service, every role, every kind of credential, and every id of another's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from services.chassis.auth.table import TABLE
from services.chassis.auth.values import Role
from tests.fakes.openai_server import FakeOpenAI
from tests.integration.tenants.methods import (
    METHODS,
    REQUESTS,
    answer,
    call,
    feedback,
    id_fields,
    query,
    report,
    server_of,
    status,
)
from tests.integration.tenants.scopes import SCOPES, Seen
from tests.integration.tenants.tenancy import Tenancy
from tests.suite_process import SERVICES, SuiteProcess, environment

pytestmark = pytest.mark.asyncio(loop_scope="module")

Channels = Mapping[str, grpc.aio.Channel]

CLIENTS = {Role.CLIENT, Role.OPERATOR}
SUITE = {Role.SERVICE, Role.OPERATOR}
ALLOWED = {
    "CompletionService/Complete": CLIENTS,
    "CompletionService/StreamComplete": CLIENTS,
    "CompletionService/ResumeStream": CLIENTS,
    "CompletionService/SubmitFeedback": CLIENTS,
    "CacheService/Lookup": SUITE,
    "CacheService/BatchLookup": SUITE,
    "CacheService/WaitFill": SUITE,
    "CacheService/RenewFill": SUITE,
    "CacheService/Commit": SUITE,
    "CacheService/Abort": SUITE,
    "CacheService/Put": SUITE,
    "CacheService/ReportAudit": SUITE,
    "CacheService/Delete": {Role.OPERATOR},
    "CacheService/Clear": {Role.OPERATOR},
    "CacheService/GetStats": set(Role),
    "CacheService/Explain": {Role.OPERATOR},
    "CacheService/ListEntries": {Role.OPERATOR},
    "CacheService/Feedback": SUITE,
    "CacheService/Export": {Role.OPERATOR},
    "CacheService/Import": {Role.OPERATOR},
    "CacheService/StartReembedding": {Role.OPERATOR},
    "CacheService/GetReembedding": {Role.OPERATOR},
    "CacheService/CancelReembedding": {Role.OPERATOR},
    "CacheService/DropOldEmbeddings": {Role.OPERATOR},
    "RouterService/Route": SUITE,
    "RouterService/RecordOutcome": SUITE,
    "RouterService/BatchRecordOutcomes": SUITE,
    "RouterService/ListModels": set(Role),
}
"""Written down once more, apart from the table in the code: a slip there must not become the rule."""

FORGED = {
    "the tenant": (("x-antiphon-tenant", "globex"),),
    "the tenant, which is the caller's own": (("x-antiphon-tenant", "acme"),),
    "the key": (("x-antiphon-key-id", "abcdefghijkl"),),
    "both": (("x-antiphon-tenant", "globex"), ("x-antiphon-key-id", "abcdefghijkl")),
}

LABELS = {
    "CompletionService/Complete": {"messages.tool_call_id", "messages.tool_calls.id", "session_id", "request_id"},
    "CompletionService/StreamComplete": {
        f"request.{path}" for path in ("messages.tool_call_id", "messages.tool_calls.id", "session_id", "request_id")
    },
    "CacheService/Lookup": {"query.messages.tool_call_id", "query.messages.tool_calls.id"},
    "CacheService/BatchLookup": {"lookups.query.messages.tool_call_id", "lookups.query.messages.tool_calls.id"},
    "CacheService/Explain": {"query.messages.tool_call_id", "query.messages.tool_calls.id"},
    "CacheService/Put": {
        "query.messages.tool_call_id",
        "query.messages.tool_calls.id",
        "answer.tool_calls.id",
    },
    "CacheService/Commit": {"answer.tool_calls.id"},
    # An audit is a hit of its own tenant; whose it is not learns that it is not open.
    "CacheService/ReportAudit": {"audit_id", "answer.tool_calls.id"},
    "CacheService/Feedback": {"feedback_id", "lookup_id"},
    # Hashes of who said what, which nothing is found by.
    "CacheService/Import": {"lines.entry.answer.tool_calls.id", "lines.entry.verdicts.id"},
    "RouterService/Route": {"messages.tool_call_id", "messages.tool_calls.id"},
    # Refused in its place and not as the call's error: see the router's tests of many reports at once.
    "RouterService/BatchRecordOutcomes": {"reports.decision_id"},
}
"""Fields that name nothing that is kept here: parts of the conversation, and the caller's own marks."""


class Objects:
    """What a tenant has: an entry, a lease, a decision, a completion, a stream."""

    def __init__(self, entry_id: str, lease_id: str, decision_id: str, completion_id: str, stream_id: str) -> None:
        self.entry_id = entry_id
        self.lease_id = lease_id
        self.decision_id = decision_id
        self.completion_id = completion_id
        self.stream_id = stream_id


COMPLETE = completion_pb2.CompleteRequest(prompt="Which of these is the owner's?")

NAMED: Mapping[tuple[str, str], Callable[[Objects], Message]] = {
    ("CacheService/WaitFill", "lease_id"): lambda o: cache_pb2.WaitFillRequest(lease_id=o.lease_id),
    ("CacheService/RenewFill", "lease_id"): lambda o: cache_pb2.RenewFillRequest(lease_id=o.lease_id),
    ("CacheService/Commit", "lease_id"): lambda o: cache_pb2.CommitRequest(
        lease_id=o.lease_id, answer=answer("stolen")
    ),
    ("CacheService/Abort", "lease_id"): lambda o: cache_pb2.AbortRequest(lease_id=o.lease_id),
    ("CacheService/Feedback", "entry_id"): lambda o: feedback(o.entry_id),
    ("CacheService/Delete", "entry_ids"): lambda o: cache_pb2.DeleteRequest(
        entry_ids=cache_pb2.EntryIds(ids=[o.entry_id])
    ),
    ("CacheService/Delete", "entry_ids.ids"): lambda o: cache_pb2.DeleteRequest(
        entry_ids=cache_pb2.EntryIds(ids=[o.entry_id]), dry_run=True
    ),
    ("CompletionService/SubmitFeedback", "completion_id"): lambda o: completion_pb2.SubmitFeedbackRequest(
        completion_id=o.completion_id, verdict=cache_pb2.VERDICT_WRONG
    ),
    ("CompletionService/ResumeStream", "stream_id"): lambda o: completion_pb2.ResumeStreamRequest(
        stream_id=o.stream_id
    ),
    ("RouterService/RecordOutcome", "decision_id"): lambda o: report(o.decision_id),
}
"""For each field of a request that names an object of one tenant: the request that names it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channels(suite: SuiteProcess) -> AsyncIterator[Channels]:
    """A connection to each service."""
    opened = {name: grpc.aio.insecure_channel(suite.address(name)) for name in SERVICES}
    yield opened
    for channel in opened.values():
        await channel.close()


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


async def test_the_table_has_every_method_and_no_other() -> None:
    assert set(METHODS) == set(ALLOWED) == set(REQUESTS)
    assert {name.rpartition(".")[2]: set(roles) for name, roles in TABLE.items()} == ALLOWED


async def test_every_field_that_could_name_an_object_is_in_a_list() -> None:
    found = {(name, path) for name in METHODS for path in id_fields(name)}
    known = set(NAMED) | {(name, path) for name, paths in LABELS.items() for path in paths}
    assert found == known


@pytest.mark.fault(14)
@pytest.mark.fault(15)
async def test_only_the_cells_of_the_table_pass(channels: Channels, tenancy: Tenancy) -> None:
    wrong: list[str] = []
    for name, allowed in ALLOWED.items():
        for role in Role:
            valid = tenancy.keys["acme", role]
            let_in = None if role in allowed else ("PERMISSION_DENIED", "METHOD_NOT_ALLOWED")
            cells = {
                "no credential": ((), ("UNAUTHENTICATED", "MISSING_CREDENTIAL")),
                "garbage": (bearer("garbage"), ("UNAUTHENTICATED", "INVALID_CREDENTIAL")),
                "another's secret": (
                    bearer(tenancy.key("globex", role).replace(tenancy.keys["globex", role].id, valid.id)),
                    ("UNAUTHENTICATED", "INVALID_CREDENTIAL"),
                ),
                "expired": (
                    bearer(tenancy.expired["acme", role].text),
                    ("UNAUTHENTICATED", "EXPIRED_CREDENTIAL"),
                ),
                "revoked": (
                    bearer(tenancy.revoked["acme", role].text),
                    ("UNAUTHENTICATED", "INVALID_CREDENTIAL"),
                ),
                "another tenant's": (bearer(tenancy.key("globex", role)), let_in),
                "valid": (bearer(valid.text), let_in),
            }
            for kind, (metadata, expected) in cells.items():
                code, reason, message = await status(channels[server_of(name)], name, REQUESTS[name](), metadata)
                passed = code not in {"UNAUTHENTICATED", "PERMISSION_DENIED", "INTERNAL", "UNKNOWN", "UNIMPLEMENTED"}
                if not (passed if expected is None else (code, reason) == expected):
                    wrong.append(f"{name} as {role} with {kind}: {code} {reason} {message}")
                if "ap_" in message or valid.id in message:
                    wrong.append(f"{name} as {role} with {kind} says what was sent: {message}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.fault(15)
async def test_a_forged_tenant_is_refused_by_every_method(channels: Channels, tenancy: Tenancy) -> None:
    wrong: list[str] = []
    for name, allowed in ALLOWED.items():
        for role in (Role.CLIENT, Role.OPERATOR):
            for kind, forged in FORGED.items():
                metadata = (*bearer(tenancy.key("acme", role)), *forged)
                code, reason, _ = await status(channels[server_of(name)], name, REQUESTS[name](), metadata)
                expected = "TENANT_NOT_ALLOWED" if role in allowed else "METHOD_NOT_ALLOWED"
                if (code, reason) != ("PERMISSION_DENIED", expected):
                    wrong.append(f"{name} as {role} with {kind} forged: {code} {reason}")
        for kind, forged in FORGED.items():
            code, _, _ = await status(channels[server_of(name)], name, REQUESTS[name](), forged)
            if code != "UNAUTHENTICATED":
                wrong.append(f"{name} without a credential, with {kind} forged: {code}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.fault(15)
async def test_a_forged_tenant_is_refused_without_credentials_too(tmp_path: Path) -> None:
    started = SuiteProcess(environment(tmp_path / "state"))
    try:
        started.wait_for("SERVING")
        wrong: list[str] = []
        for name in METHODS:
            async with grpc.aio.insecure_channel(started.address(server_of(name))) as channel:
                for kind, forged in FORGED.items():
                    code, reason, _ = await status(channel, name, REQUESTS[name](), forged)
                    if (code, reason) != ("PERMISSION_DENIED", "TENANT_NOT_ALLOWED"):
                        wrong.append(f"{name} with {kind} forged: {code} {reason}")
        assert not wrong, "\n".join(wrong)
    finally:
        started.close()


async def test_a_service_names_tenants_by_their_names(channels: Channels, tenancy: Tenancy) -> None:
    for tenant in ("", "Globex", "a/b", "a|b", "a" * 65):
        metadata = (*bearer(tenancy.service.text), ("x-antiphon-tenant", tenant))
        name = "CacheService/GetStats"
        code, reason, _ = await status(channels[server_of(name)], name, REQUESTS[name](), metadata)
        assert (code, reason) == ("PERMISSION_DENIED", "TENANT_NOT_ALLOWED")


@pytest.mark.fault(15)
async def test_another_tenants_objects_are_not_found(channels: Channels, tenancy: Tenancy) -> None:
    owner, stranger = (bearer(tenancy.key(tenant, Role.OPERATOR)) for tenant in ("acme", "globex"))
    cache, router = channels["cache"], channels["router"]

    async def lookup(text: str) -> cache_pb2.LookupResponse:
        request = cache_pb2.LookupRequest(query=query(text), fill_token="the owner's")
        (found,) = await call(cache, "CacheService/Lookup", request, owner)
        assert isinstance(found, cache_pb2.LookupResponse)
        return found

    put = cache_pb2.PutRequest(query=query("What is mine?"), answer=answer("Mine."))
    (stored,) = await call(cache, "CacheService/Put", put, owner)
    (decided,) = await call(router, "RouterService/Route", REQUESTS["RouterService/Route"](), owner)
    lease_id = (await lookup("Who fills this?")).fill.granted.id
    for _ in range(2):  # the second one is served, so that its entry is known at once
        (completed,) = await call(channels["completion"], "CompletionService/Complete", COMPLETE, owner)
    stream = completion_pb2.StreamCompleteRequest(request=COMPLETE, resumable=True)
    begun, *_ = await call(channels["completion"], "CompletionService/StreamComplete", stream, owner)
    theirs = Objects(
        stored.entry_id,  # type: ignore[attr-defined]
        lease_id,
        decided.decision_id,  # type: ignore[attr-defined]
        completed.info.completion_id,  # type: ignore[attr-defined]
        begun.started.stream_id,  # type: ignore[attr-defined]
    )
    nobodys = Objects(
        "00000000-0000-5000-8000-000000000000", "no-such-lease", "0" * len(theirs.decision_id), "none", "none"
    )
    assert all((theirs.entry_id, theirs.lease_id, theirs.decision_id, theirs.completion_id, theirs.stream_id))
    for (name, path), request in NAMED.items():
        channel = channels[server_of(name)]
        seen = [await status(channel, name, request(objects), stranger) for objects in (theirs, nobodys)]
        assert seen[0] == seen[1], f"{name} tells by {path} that there is something"
        # Giving up what nobody has is no error: Abort may be repeated.
        assert seen[0][0] == ("OK" if name == "CacheService/Abort" else "NOT_FOUND"), f"{name} by {path}"
    assert (await lookup("What is mine?")).answer.text == "Mine."
    assert (await lookup("Who fills this?")).fill.granted.id == lease_id, "the lease is still its holder's"
    for (name, _), request in NAMED.items():
        if name not in {"CacheService/Abort", "CacheService/WaitFill"}:
            code, _, message = await status(channels[server_of(name)], name, request(theirs), owner)
            assert code == "OK" or (name == "CacheService/Delete" and "dry_run: true" in str(request(theirs))), message


@pytest.mark.fault(15)
async def test_equal_questions_of_two_tenants_have_nothing_in_common(
    channels: Channels, tenancy: Tenancy, upstream: FakeOpenAI
) -> None:
    scopes = {scope.tenant: scope for scope in reversed(SCOPES)}
    seen = Seen()

    async def ask(tenant: str, role: Role, name: str, request: Message) -> Message:
        responses = await call(channels[server_of(name)], name, request, bearer(tenancy.key(tenant, role)))
        for response in responses:
            seen.look(scopes[tenant], response)
        return responses[-1]

    question, before = "How do I reset my password?", len(upstream.chat_calls)
    complete = completion_pb2.CompleteRequest(prompt=question)
    for again in range(2):
        for tenant in ("acme", "globex"):
            response = await ask(tenant, Role.CLIENT, "CompletionService/Complete", complete)
            assert isinstance(response, completion_pb2.CompleteResponse)
            expected = cache_pb2.OUTCOME_EXACT if again else cache_pb2.OUTCOME_MISS
            assert response.info.cache.outcome == expected
            stream = completion_pb2.StreamCompleteRequest(request=complete)
            await ask(tenant, Role.CLIENT, "CompletionService/StreamComplete", stream)
        assert len(upstream.chat_calls) == before + 2, "one call for each tenant"
    policy = cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_ONLY_IF_CACHED)
    for name in ("acme", "globex"):
        found = await ask(name, Role.OPERATOR, "CacheService/Lookup", cache_pb2.LookupRequest(query=query(question)))
        assert isinstance(found, cache_pb2.LookupResponse)
        assert found.outcome == cache_pb2.OUTCOME_EXACT, "the other's clear took nothing away"
        await ask(name, Role.OPERATOR, "CacheService/Clear", cache_pb2.ClearRequest())
        gone = await ask(
            name, Role.OPERATOR, "CacheService/Lookup", cache_pb2.LookupRequest(query=query(question), policy=policy)
        )
        assert isinstance(gone, cache_pb2.LookupResponse)
        assert gone.outcome == cache_pb2.OUTCOME_MISS
    assert len(seen.ids) >= 8
