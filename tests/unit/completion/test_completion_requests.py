"""What a caller may send, which field is named when it is wrong, and which requests are the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon.router.v1 import router_pb2
from services.catalogue.values import Capability
from services.chassis.auth.values import Caller
from services.chassis.errors import InvalidRequest, Reason
from services.completion.proto.requests import body_digest, read_key, read_request
from services.completion.request import CacheMode, CachePolicy, Constraints, Objective, Request
from services.completion.resilience.policy import AttemptPolicy
from services.llm.values import Message, Role, TextPart

Sent = completion_pb2.CompleteRequest
NAMES = {"small": "small", "little": "small", "large": "large"}


def resolve(name: str, field: str) -> str:
    if name not in NAMES:
        raise InvalidRequest("no such model", reason=Reason.UNKNOWN_MODEL, field=field)
    return NAMES[name]


def read(sent: Sent, *, tenant: str = "default", path: str = "") -> Request:
    return read_request(sent, caller=Caller(tenant), resolve=resolve, path=path)


def user(*texts: str) -> llm_pb2.Message:
    return llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=text) for text in texts])


def policy(**fields: object) -> Sent:
    return Sent(prompt="Hi", cache=cache_pb2.CachePolicy(**fields))  # type: ignore[arg-type]


def constraints(**fields: object) -> Sent:
    return Sent(prompt="Hi", constraints=router_pb2.RouteConstraints(**fields))  # type: ignore[arg-type]


def attempts(**fields: object) -> Sent:
    return Sent(prompt="Hi", attempts=completion_pb2.AttemptPolicy(**fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "field", "reason"),
    [
        (Sent(), "prompt", Reason.MISSING_FIELD),
        (Sent(prompt=" \n\t"), "prompt", Reason.MISSING_FIELD),
        (Sent(prompt="a", messages=[user("b")]), "prompt", Reason.INVALID_FIELD),
        (Sent(messages=[user(" ")]), "messages[0].parts", Reason.MISSING_FIELD),
        (Sent(messages=[llm_pb2.Message()]), "messages[0].role", Reason.MISSING_FIELD),
        (Sent(prompt="Hi", session_id="s"), "session_id", Reason.UNSUPPORTED_FIELD),
        (Sent(prompt="Hi", priority=101), "priority", Reason.INVALID_FIELD),
        (Sent(prompt="Hi", priority=-101), "priority", Reason.INVALID_FIELD),
        (attempts(max_tries=4), "attempts.max_tries", Reason.INVALID_FIELD),
        (attempts(max_tries=-1), "attempts.max_tries", Reason.INVALID_FIELD),
        (attempts(total_timeout=Duration()), "attempts.total_timeout", Reason.INVALID_FIELD),
        (attempts(connect_timeout=Duration()), "attempts.connect_timeout", Reason.INVALID_FIELD),
        (attempts(first_token_timeout=Duration()), "attempts.first_token_timeout", Reason.INVALID_FIELD),
        (attempts(idle_timeout=Duration(seconds=-1)), "attempts.idle_timeout", Reason.INVALID_FIELD),
        (Sent(prompt="Hi", namespace="with space"), "namespace", Reason.INVALID_FIELD),
        (Sent(prompt="Hi", namespace="n" * 129), "namespace", Reason.INVALID_FIELD),
        (Sent(prompt="Hi", request_id="r" * 65), "request_id", Reason.INVALID_FIELD),
        (Sent(prompt="Hi", request_id="zwölf"), "request_id", Reason.INVALID_FIELD),
        (Sent(prompt="Hi", request_id="line\n"), "request_id", Reason.INVALID_FIELD),
        (Sent(prompt="Hi", model="unheard-of"), "model", Reason.UNKNOWN_MODEL),
        (Sent(prompt="Hi", options=llm_pb2.GenerationOptions(top_p=2)), "options.top_p", Reason.INVALID_FIELD),
        (Sent(prompt="Hi", tools=[llm_pb2.Tool()]), "tools[0].name", Reason.INVALID_FIELD),
        (policy(min_similarity=1.1), "cache.min_similarity", Reason.INVALID_FIELD),
        (policy(max_error_rate=-0.1), "cache.max_error_rate", Reason.INVALID_FIELD),
        (policy(max_error_rate=float("nan")), "cache.max_error_rate", Reason.INVALID_FIELD),
        (policy(ttl=Duration()), "cache.ttl", Reason.INVALID_FIELD),
        (policy(max_age=Duration(seconds=-1)), "cache.max_age", Reason.INVALID_FIELD),
        (policy(tags=["t"] * 17), "cache.tags", Reason.INVALID_FIELD),
        (policy(tags=[""]), "cache.tags", Reason.INVALID_FIELD),
        (policy(stale_while_revalidate=Duration()), "cache.stale_while_revalidate", Reason.INVALID_FIELD),
        (policy(source_versions={"a": ""}), "cache.source_versions", Reason.INVALID_FIELD),
        (constraints(allowed_models=["small", "nope"]), "constraints.allowed_models[1]", Reason.UNKNOWN_MODEL),
        (constraints(max_cost_nano_usd=0), "constraints.max_cost_nano_usd", Reason.INVALID_FIELD),
        (constraints(max_latency=Duration()), "constraints.max_latency", Reason.INVALID_FIELD),
        (constraints(capabilities=[0]), "constraints.capabilities[0]", Reason.INVALID_FIELD),
    ],
)
def test_what_is_wrong_is_refused_and_named(sent: Sent, field: str, reason: Reason) -> None:
    for path in ("", "request."):
        with pytest.raises(InvalidRequest) as caught:
            read(sent, path=path)
        assert (caught.value.field, caught.value.reason) == (path + field, reason)


def test_a_prompt_is_one_user_message_and_everything_else_has_its_default() -> None:
    request = read(Sent(prompt="Hi"))
    assert request.question.messages == (Message(Role.USER, (TextPart("Hi"),)),)
    assert request.question.namespace == "default"
    assert request.question.model == ""
    assert request.question.objective == ""
    assert request.policy == CachePolicy()
    assert request.constraints == Constraints()
    assert request.objective is Objective.COST


def test_everything_that_is_sent_is_read() -> None:
    request = read(
        Sent(
            prompt="Hi",
            model="little",
            namespace="team/a",
            cache=cache_pb2.CachePolicy(
                mode=cache_pb2.CACHE_MODE_REFRESH,
                min_similarity=0.5,
                max_error_rate=0.1,
                ttl=Duration(seconds=60),
                max_age=Duration(nanos=500_000_000),
                no_store=True,
                tags=["t"],
            ),
            constraints=router_pb2.RouteConstraints(
                allowed_models=["little"],
                denied_models=["large", "never heard of"],
                max_cost_nano_usd=9,
                max_latency=Duration(seconds=2),
                capabilities=[router_pb2.CAPABILITY_TOOLS],
            ),
            objective=router_pb2.OBJECTIVE_QUALITY,
            routing_policy="keywords",
        )
    )
    assert request.question.model == "small", "an alias is the model that it names"
    assert request.question.namespace == "team/a"
    assert request.policy == CachePolicy(CacheMode.REFRESH, 0.5, 0.1, 60.0, 0.5, no_store=True, tags=("t",))
    assert request.constraints == Constraints(
        frozenset({"small"}), frozenset({"large", "never heard of"}), 9, 2.0, frozenset({Capability.TOOLS})
    )
    assert (request.objective, request.routing_policy) == (Objective.QUALITY, "keywords")


def test_requests_that_mean_the_same_share() -> None:
    key = read(Sent(prompt="Hi", model="small")).key
    for same in (
        Sent(messages=[user("Hi")], model="small"),
        Sent(prompt="Hi", model="little", request_id="another"),
        Sent(prompt="Hi", model="small", namespace="default"),
        Sent(prompt="Hi", model="small", objective=router_pb2.OBJECTIVE_COST),
        Sent(prompt="Hi", model="small", cache=cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_DEFAULT)),
        Sent(
            prompt="Hi",
            model="small",
            cache=cache_pb2.CachePolicy(),
            options=llm_pb2.GenerationOptions(),
            constraints=router_pb2.RouteConstraints(),
        ),
    ):
        assert read(same).key == key
    assert read(Sent(prompt="Hi", model="auto")).key == read(Sent(prompt="Hi")).key


def _struct(request: Sent, *pairs: tuple[str, int]) -> Sent:
    for name, value in pairs:
        request.options.extra.update({name: value})
    return request


def test_the_order_of_a_structs_fields_means_nothing() -> None:
    forth = _struct(Sent(prompt="Hi"), *((f"k{i}", i) for i in range(20)))
    back = _struct(Sent(prompt="Hi"), *((f"k{i}", i) for i in reversed(range(20))))
    assert read(forth).key == read(back).key


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.MergeFrom(Sent(namespace="other")),
        lambda r: r.MergeFrom(Sent(model="large")),
        lambda r: r.MergeFrom(Sent(objective=router_pb2.OBJECTIVE_QUALITY)),
        lambda r: r.MergeFrom(Sent(routing_policy="keywords")),
        lambda r: r.MergeFrom(Sent(tools=[llm_pb2.Tool(name="t")])),
        lambda r: r.MergeFrom(Sent(options=llm_pb2.GenerationOptions(seed=0))),
        lambda r: r.options.extra.update({"k": 1}),
        lambda r: r.MergeFrom(Sent(cache=cache_pb2.CachePolicy(mode=cache_pb2.CACHE_MODE_REFRESH))),
        lambda r: r.MergeFrom(Sent(cache=cache_pb2.CachePolicy(no_store=True))),
        lambda r: r.MergeFrom(Sent(constraints=router_pb2.RouteConstraints(max_cost_nano_usd=1))),
        lambda r: r.messages.append(user("more")),
        lambda r: r.messages.insert(0, llm_pb2.Message(role=llm_pb2.ROLE_SYSTEM, parts=user("Be brief.").parts)),
    ],
)
def test_requests_that_differ_do_not_share(change: Callable[[Sent], object]) -> None:
    other = Sent(messages=[user("Hi")])
    change(other)
    assert read(other).key != read(Sent(messages=[user("Hi")])).key


def test_tenants_do_not_share() -> None:
    assert read(Sent(prompt="Hi"), tenant="a").key != read(Sent(prompt="Hi"), tenant="b").key


def test_routing_wishes_are_part_of_the_caches_scope() -> None:
    wishes = [
        Sent(prompt="Hi"),
        Sent(prompt="Hi", objective=router_pb2.OBJECTIVE_QUALITY),
        Sent(prompt="Hi", routing_policy="keywords"),
        constraints(max_cost_nano_usd=1),
        constraints(allowed_models=["small"]),
        constraints(denied_models=["small"]),
    ]
    scopes = [read(sent).question.objective for sent in wishes]
    assert len(set(scopes)) == len(scopes)
    assert read(constraints(allowed_models=["small", "large"])).question.objective == (
        read(constraints(allowed_models=["large", "little"])).question.objective
    )


@pytest.mark.parametrize("key", ["k" * 129, "zwölf", "line\nbreak", "\x7f"])
@pytest.mark.parametrize("path", ["", "request."])
def test_a_key_is_short_printable_ascii(key: str, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_key(Sent(idempotency_key=key), path)
    assert caught.value.field == f"{path}idempotency_key"


@pytest.mark.parametrize("key", ["", " ", "k" * 128, "order-17/attempt:~"])
def test_any_other_key_is_taken_as_it_is(key: str) -> None:
    assert read_key(Sent(idempotency_key=key)) == key


def test_a_body_is_all_that_was_sent_but_its_key_and_its_id() -> None:
    sent = Sent(prompt="Hi", model="small", idempotency_key="a", request_id="b")
    before = Sent.FromString(sent.SerializeToString())
    digest = body_digest(sent)
    assert sent == before, "reading changes nothing"
    assert digest == body_digest(Sent(prompt="Hi", model="small", idempotency_key="c"))
    others = [
        Sent(prompt="Hi"),
        Sent(prompt="Hi ", model="small"),
        Sent(messages=[user("Hi")], model="small"),
        Sent(prompt="Hi", model="small", cache=cache_pb2.CachePolicy(no_store=True)),
    ]
    assert len({digest, *map(body_digest, others)}) == 5


def test_wishes_for_the_attempts_are_read_and_keep_requests_apart() -> None:
    sent = attempts(
        total_timeout=Duration(seconds=20),
        connect_timeout=Duration(seconds=1),
        first_token_timeout=Duration(seconds=2),
        idle_timeout=Duration(seconds=3),
        max_tries=2,
        after_content=completion_pb2.AFTER_CONTENT_CONTINUE,
    )
    assert read(sent).attempts == AttemptPolicy(20.0, 1.0, 2.0, 3.0, 2, continues=True)
    assert read(Sent(prompt="Hi")).attempts == AttemptPolicy()
    assert read(sent).key != read(Sent(prompt="Hi")).key


def test_priority_is_nothing_that_keeps_requests_apart() -> None:
    urgent, batch = Sent(prompt="Hi", priority=10), Sent(prompt="Hi", priority=-10)
    assert (read(urgent).priority, read(batch).priority) == (10, -10)
    assert read(urgent).key == read(batch).key
