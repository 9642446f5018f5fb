"""Reads a request of `antiphon.completion.v1` into plain values and checks it.

Errors name the field by its path from the request of the rpc that was called.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable

from google.protobuf.duration_pb2 import Duration

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon.router.v1 import router_pb2
from services.chassis.auth.values import Caller
from services.chassis.errors import InvalidRequest
from services.completion.proto.words import CAPABILITIES, MODES, OBJECTIVES
from services.completion.request import (
    LEAST_PRIORITY,
    MOST_PRIORITY,
    CachePolicy,
    Constraints,
    Objective,
    Question,
    Request,
)
from services.completion.resilience.policy import MOST_TRIES, AttemptPolicy
from services.llm.fields import invalid, is_blank, missing, refuse_unsupported
from services.llm.reading import read_messages, read_options, read_tools
from services.llm.values import Message, Role, TextPart

DEFAULT_NAMESPACE = "default"
AUTO = "auto"
MAX_TAGS = 16
MAX_TAG = 64
MAX_SOURCES = 16

_NAMESPACE = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_REQUEST_ID = re.compile(r"[\x20-\x7e]{0,64}")

_KEY = re.compile(r"[\x20-\x7e]{1,128}")

_NO_CONSTRAINTS = Constraints()
_NO_WISH = AttemptPolicy()
_MODE_ALONE = {number: CachePolicy(mode) for number, mode in MODES.items()}

Resolve = Callable[[str, str], str]
"""From a model's name or alias, and the path of its field, to its name; raises if it is not known."""


def read_request(
    request: completion_pb2.CompleteRequest, *, caller: Caller, resolve: Resolve, path: str = ""
) -> Request:
    """Read and check a request. `path` is the prefix of its fields, with the dot."""
    if request.session_id:
        refuse_unsupported(request, ("session_id",), path.rstrip("."))
    if not _REQUEST_ID.fullmatch(request.request_id):
        raise invalid(f"{path}request_id", "at most 64 printable ASCII characters")
    if not LEAST_PRIORITY <= request.priority <= MOST_PRIORITY:
        raise invalid(f"{path}priority", f"must be {LEAST_PRIORITY} to {MOST_PRIORITY}")
    namespace = request.namespace or DEFAULT_NAMESPACE
    if not _NAMESPACE.fullmatch(namespace):
        raise invalid(f"{path}namespace", "must be 1 to 128 of a-z A-Z 0-9 . _ : / -")
    _must_ask(request, path)
    model = "" if request.model in {"", AUTO} else resolve(request.model, f"{path}model")
    constraints = _NO_CONSTRAINTS
    if request.HasField("constraints"):
        constraints = _constraints(request.constraints, resolve, f"{path}constraints.")
    objective = OBJECTIVES[request.objective]
    return Request(
        question=Question(
            messages=_messages(request, path),
            model=model,
            namespace=namespace,
            options=read_options(request.options, f"{path}options"),
            tools=read_tools(request.tools, f"{path}tools"),
            objective=scope(objective, constraints, request.routing_policy),
        ),
        caller=caller,
        policy=_policy(request.cache, f"{path}cache."),
        constraints=constraints,
        objective=objective,
        routing_policy=request.routing_policy,
        attempts=_attempts(request.attempts, f"{path}attempts.") if request.HasField("attempts") else _NO_WISH,
        priority=request.priority,
        # The last: what is refused above would take long to copy.
        key=_key(request, caller.tenant, namespace, model),
    )


def read_key(request: completion_pb2.CompleteRequest, path: str = "") -> str:
    """Read and check the idempotency key; empty if the request has none."""
    if request.idempotency_key and not _KEY.fullmatch(request.idempotency_key):
        raise invalid(f"{path}idempotency_key", "must be 1 to 128 printable ASCII characters")
    return request.idempotency_key


def body_digest(request: completion_pb2.CompleteRequest) -> str:
    """Return what only requests that say the same have in common, with whatever key and id they are sent."""
    body = completion_pb2.CompleteRequest()
    body.CopyFrom(request)
    body.ClearField("idempotency_key")
    body.ClearField("request_id")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).hexdigest()


def scope(objective: Objective, constraints: Constraints, policy: str) -> str:
    """Return a digest of a caller's routing wishes for the cache's fingerprint; empty if it has none."""
    if objective is Objective.COST and constraints == Constraints() and not policy:
        return ""
    wishes = [
        objective.value,
        sorted(constraints.allowed),
        sorted(constraints.denied),
        constraints.max_cost,
        constraints.max_latency,
        sorted(constraints.capabilities),
        policy,
    ]
    return hashlib.sha256(json.dumps(wishes).encode()).hexdigest()[:32]


def _must_ask(request: completion_pb2.CompleteRequest, path: str) -> None:
    if request.messages:
        if request.prompt:
            raise invalid(f"{path}prompt", "give either prompt or messages")
    elif is_blank(request.prompt):
        raise missing(f"{path}prompt", "prompt or messages is required")


def _messages(request: completion_pb2.CompleteRequest, path: str) -> tuple[Message, ...]:
    if request.messages:
        return read_messages(request.messages, f"{path}messages")
    return (Message(Role.USER, (TextPart(request.prompt),)),)


def _key(request: completion_pb2.CompleteRequest, tenant: str, namespace: str, model: str) -> bytes:
    """Return what only requests that ask the very same have in common; what means the same is written the same."""
    if request.cache.mode == cache_pb2.CACHE_MODE_BYPASS:
        return b""  # shares with nobody
    messages = request.messages or [
        llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=request.prompt)])
    ]
    canonical = completion_pb2.CompleteRequest(
        messages=messages,
        model=model,
        namespace=namespace,
        tools=request.tools,
        objective=request.objective or router_pb2.OBJECTIVE_COST,
        routing_policy=request.routing_policy,
        cache=request.cache,
    )
    if request.attempts.ByteSize():
        canonical.attempts.CopyFrom(request.attempts)
    canonical.cache.mode = request.cache.mode or cache_pb2.CACHE_MODE_DEFAULT
    if request.options.ByteSize():
        canonical.options.CopyFrom(request.options)
    if request.constraints.ByteSize():
        canonical.constraints.CopyFrom(request.constraints)
    digest = hashlib.sha256(len(tenant).to_bytes(4, "little") + tenant.encode())
    digest.update(canonical.SerializeToString(deterministic=True))
    return digest.digest()


def _seconds(duration: Duration, field: str) -> float:
    """Return a duration that must be more than nothing."""
    seconds = duration.ToNanoseconds() / 1e9
    if seconds <= 0:
        raise invalid(field, "must be more than 0")
    return seconds


def _share(value: float, field: str) -> float:
    if not 0 <= value <= 1:
        raise invalid(field, "must be between 0 and 1")
    return value


def _policy(policy: cache_pb2.CachePolicy, path: str) -> CachePolicy:
    if len(policy.ListFields()) == (1 if policy.mode else 0):  # as mostly
        return _MODE_ALONE[policy.mode]
    if len(policy.tags) > MAX_TAGS or any(not 1 <= len(tag) <= MAX_TAG for tag in policy.tags):
        raise invalid(f"{path}tags", f"at most {MAX_TAGS} of 1 to {MAX_TAG} characters")
    versions = policy.source_versions
    words = [word for pair in versions.items() for word in pair]
    if len(versions) > MAX_SOURCES or any(not 1 <= len(word) <= MAX_TAG for word in words):
        problem = f"at most {MAX_SOURCES}, names and versions of 1 to {MAX_TAG} characters"
        raise invalid(f"{path}source_versions", problem)
    return CachePolicy(
        mode=MODES[policy.mode],
        min_similarity=_share(policy.min_similarity, f"{path}min_similarity")
        if policy.HasField("min_similarity")
        else None,
        max_error_rate=_share(policy.max_error_rate, f"{path}max_error_rate")
        if policy.HasField("max_error_rate")
        else None,
        ttl=_seconds(policy.ttl, f"{path}ttl") if policy.HasField("ttl") else None,
        max_age=_seconds(policy.max_age, f"{path}max_age") if policy.HasField("max_age") else None,
        no_store=policy.no_store,
        tags=tuple(policy.tags),
        stale=_seconds(policy.stale_while_revalidate, f"{path}stale_while_revalidate")
        if policy.HasField("stale_while_revalidate")
        else None,
        sources=tuple(sorted(versions.items())),
    )


def _attempts(policy: completion_pb2.AttemptPolicy, path: str) -> AttemptPolicy:
    if not 0 <= policy.max_tries <= MOST_TRIES:
        raise invalid(f"{path}max_tries", f"must be 1 to {MOST_TRIES}, or 0 for the operator's")

    return AttemptPolicy(
        total=_seconds(policy.total_timeout, f"{path}total_timeout") if policy.HasField("total_timeout") else None,
        connect=_seconds(policy.connect_timeout, f"{path}connect_timeout")
        if policy.HasField("connect_timeout")
        else None,
        first_token=_seconds(policy.first_token_timeout, f"{path}first_token_timeout")
        if policy.HasField("first_token_timeout")
        else None,
        idle=_seconds(policy.idle_timeout, f"{path}idle_timeout") if policy.HasField("idle_timeout") else None,
        tries=policy.max_tries or MOST_TRIES,
        continues=policy.after_content == completion_pb2.AFTER_CONTENT_CONTINUE,
    )


def _constraints(constraints: router_pb2.RouteConstraints, resolve: Resolve, path: str) -> Constraints:
    if constraints.HasField("max_cost_nano_usd") and constraints.max_cost_nano_usd <= 0:
        raise invalid(f"{path}max_cost_nano_usd", "must be more than 0")
    capabilities = set()
    for i, number in enumerate(constraints.capabilities):
        if number not in CAPABILITIES:
            raise invalid(f"{path}capabilities[{i}]", "must name a capability")
        capabilities.add(CAPABILITIES[number])
    return Constraints(
        allowed=frozenset(
            resolve(name, f"{path}allowed_models[{i}]") for i, name in enumerate(constraints.allowed_models)
        ),
        denied=frozenset(_if_known(name, resolve) for name in constraints.denied_models),
        max_cost=constraints.max_cost_nano_usd if constraints.HasField("max_cost_nano_usd") else None,
        max_latency=_seconds(constraints.max_latency, f"{path}max_latency")
        if constraints.HasField("max_latency")
        else None,
        capabilities=frozenset(capabilities),
    )


def _if_known(name: str, resolve: Resolve) -> str:
    """Return the name behind an alias; a model that is not offered is denied already."""
    try:
        return resolve(name, "")
    except InvalidRequest:
        return name
