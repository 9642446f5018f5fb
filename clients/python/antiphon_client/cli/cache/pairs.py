"""A line of `antiphon cache warm`: a question and its answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from antiphon.cache.v1 import cache_pb2
from antiphon.llm.v1 import llm_pb2


class WrongLineError(Exception):
    """What is wrong with a line."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds where a line does not say; `tags` are added to a line's own, `ttl` is in seconds."""

    namespace: str
    tags: tuple[str, ...]
    ttl: float | None
    answer_model: str


def read_pair(raw: bytes, terms: Terms) -> cache_pb2.PutRequest:
    """Return the request of a line. Raises `WrongLineError`."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise WrongLineError("is not JSON") from None
    if not isinstance(found, dict):
        raise WrongLineError('is not an object like {"question": "…", "answer": "…"}')
    question, answer = _text(found, "question"), _text(found, "answer")
    for name, text in (("question", question), ("answer", answer)):
        if not text.strip():
            raise WrongLineError(f'has no "{name}"')
    request = cache_pb2.PutRequest(
        query=cache_pb2.Query(
            namespace=_text(found, "namespace") or terms.namespace,
            model=_text(found, "model"),
            messages=[_message(llm_pb2.ROLE_USER, question)],
        ),
        answer=llm_pb2.Answer(
            text=answer,
            finish_reason=llm_pb2.FINISH_REASON_STOP,
            model=_text(found, "answer_model") or terms.answer_model,
        ),
        durable=True,
    )
    if system := _text(found, "system"):
        request.query.messages.insert(0, _message(llm_pb2.ROLE_SYSTEM, system))
    request.policy.tags.extend(dict.fromkeys((*_texts(found, "tags"), *terms.tags)))
    request.policy.source_versions.update(_versions(found))
    ttl = found.get("ttl", terms.ttl)
    if ttl is not None:
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl < 1e9:
            raise WrongLineError('"ttl" is not a number of seconds')
        request.policy.ttl.FromMicroseconds(max(round(ttl * 1e6), 1))
    return request


def _message(role: llm_pb2.Role.ValueType, text: str) -> llm_pb2.Message:
    return llm_pb2.Message(role=role, parts=[llm_pb2.ContentPart(text=text)])


def _text(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    return "" if value is None else _sendable(value, key)


def _texts(found: dict[str, Any], key: str) -> list[str]:
    values = found.get(key) or []
    if not isinstance(values, list):
        raise WrongLineError(f'"{key}" is not a list')
    return [_sendable(value, key) for value in values]


def _versions(found: dict[str, Any]) -> dict[str, str]:
    versions = found.get("sources") or {}
    if not isinstance(versions, dict):
        raise WrongLineError('"sources" is not an object')
    return {_sendable(name, "sources"): _sendable(version, "sources") for name, version in versions.items()}


def _sendable(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise WrongLineError(f'"{key}" is not a string')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise WrongLineError(f'"{key}" has half a surrogate pair, which is no character') from None
    return value
