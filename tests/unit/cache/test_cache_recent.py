"""Requests that come again are read once, and are what they would be without that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon.llm.v1 import llm_pb2
from services.cache import asks, recent_proto
from services.cache.ask import Ask
from services.cache.asks import MOST_CHARACTERS, Asks
from services.cache.judges import GuardedJudge
from services.cache.proto import read_policy, read_query
from services.cache.recent_proto import MOST_BYTES, MOST_MESSAGES, RecentQueries
from services.cache.scope import Addresses
from services.cache.values import Asked, Policy, Query
from services.chassis.errors import InvalidRequest, Reason
from tests.unit.cache.cache_parts import KEY, TENANT

LONGEST = 10_000
JUDGE = GuardedJudge(0.9)


def lookup(text: str, **query: object) -> pb.LookupRequest:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text)])
    return pb.LookupRequest(query=pb.Query(messages=[message], **query))  # type: ignore[arg-type]


def asked() -> Asks:
    return Asks(Addresses(KEY, embedder="known_1", longest=LONGEST), JUDGE)


def anew(tenant: str, query: Query, policy: Policy) -> Ask:
    return asked().of(tenant, Asked(query, policy)).ask


requests = st.builds(
    lambda text, namespace, objective, similarity: _with_policy(
        lookup(text, namespace=namespace, objective=objective), similarity
    ),
    st.sampled_from(["Who?", "Why?", "x" * MOST_BYTES]),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from(["", "cheap"]),
    st.sampled_from([None, 0.5, 0.9]),
)


def _with_policy(request: pb.LookupRequest, similarity: float | None) -> pb.LookupRequest:
    if similarity is not None:
        request.policy.min_similarity = similarity
    return request


@given(st.lists(st.tuples(st.sampled_from("ab"), requests), max_size=30))
def test_what_was_kept_is_what_would_be_read_and_computed(lookups: list[tuple[str, pb.LookupRequest]]) -> None:
    recent, kept = RecentQueries(), asked()
    for tenant, request in lookups:
        found = recent.read(tenant, request.SerializeToString())
        assert (found.query, found.policy) == (read_query(request), read_policy(request.policy))
        assert kept.of(tenant, found).ask == anew(tenant, read_query(request), read_policy(request.policy))


def test_the_same_request_is_read_once_for_each_tenant_and_its_token_is_its_own() -> None:
    recent = RecentQueries()
    first, again = lookup("Who?"), lookup("Who?")
    again.fill_token = "t"
    one, other = recent.read(TENANT, first.SerializeToString()), recent.read(TENANT, again.SerializeToString())
    assert one.query is other.query
    assert (one.token, other.token) == ("", "t")
    assert recent.read(TENANT, first.SerializeToString()) is one
    assert recent.read("another", first.SerializeToString()).query is not one.query


def test_what_is_wrong_is_told_every_time() -> None:
    recent = RecentQueries()
    for _ in range(2):
        with pytest.raises(InvalidRequest) as raised:
            recent.read(TENANT, b"")
        assert raised.value.field == "query"
        with pytest.raises(InvalidRequest) as raised:
            recent.read(TENANT, _with_policy(lookup("Who?"), 7.0).SerializeToString())
        assert raised.value.field == "policy.min_similarity"


def test_what_is_known_of_a_question_is_not_of_another_tenant_policy_or_attempt() -> None:
    kept, query, policy = asked(), read_query(lookup("Who?")), Policy()
    first = kept.of(TENANT, Asked(query, policy))
    assert kept.of(TENANT, Asked(query, policy, "t")) is first
    assert (first.by("").token, first.by("t").token) == ("", "t")
    other = kept.of("another", Asked(query, policy))
    assert other.ask.address.scope != first.ask.address.scope
    assert kept.of(TENANT, Asked(query, policy)).ask == first.ask
    strict = Policy(min_similarity=0.99)
    assert kept.of(TENANT, Asked(query, strict)).ask.rule.bar != first.ask.rule.bar


def test_neither_grows_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_proto, "KEPT", 3)
    monkeypatch.setattr(asks, "KEPT", 3)
    recent, kept = RecentQueries(), asked()
    for number in range(10):
        kept.of(TENANT, recent.read(TENANT, lookup(f"Number {number}?").SerializeToString()))
    kept.of(TENANT, recent.read(TENANT, lookup("x" * MOST_BYTES).SerializeToString()))
    long = lookup("Hi")
    long.query.messages.extend(long.query.messages[:1] * MOST_MESSAGES)
    assert recent.read(TENANT, long.SerializeToString()).query == read_query(long)
    kept.of(TENANT, Asked(read_query(lookup("x" * (MOST_CHARACTERS + 1)))))
    assert [key[1] for key in recent._queries] == [
        lookup(f"Number {number}?").query.SerializeToString() for number in (7, 8, 9)
    ]
    assert [key[1] for key in recent._whole] == [
        lookup(f"Number {number}?").SerializeToString() for number in (7, 8, 9)
    ]
    assert [known.query.messages[0].text for known in kept._recent.values()] == ["Number 7?", "Number 8?", "Number 9?"]


@pytest.mark.fault(5)
def test_an_enum_number_that_is_not_known_is_told_every_time_with_its_path() -> None:
    recent, request = RecentQueries(), lookup("Who?")
    request.query.messages[0].role = 77  # type: ignore[assignment]
    other = lookup("Who?")
    other.policy.mode = 77  # type: ignore[assignment]
    for _ in range(2):
        for wrong, field in ((request, "query.messages[0].role"), (other, "policy.mode")):
            with pytest.raises(InvalidRequest) as raised:
                recent.read(TENANT, wrong.SerializeToString())
            assert raised.value.field == field


@pytest.mark.fault(1)
def test_bytes_that_are_no_request_are_told_every_time() -> None:
    recent = RecentQueries()
    for _ in range(2):
        with pytest.raises(InvalidRequest) as raised:
            recent.read(TENANT, b"\xff")
        assert raised.value.reason is Reason.MALFORMED_MESSAGE
