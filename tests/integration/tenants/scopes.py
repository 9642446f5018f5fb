"""Scopes between which nothing may pass, and what has been seen in each of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

TENANTS = ("acme", "globex", "initech")
NAMESPACES = ("default", "support")
SYSTEMS = ("", "Answer in French.", "Answer in German.")
MODELS = ("", "small", "large")
QUESTIONS = (
    ("How do I reset my password?", "How can I reset my password?"),
    ("What is the capital of France?", "Which city is the capital of France?"),
    ("How long do I boil an egg?", "For how long should I boil an egg?"),
)
"""Each in two wordings, of which the second may be served what was stored for the first."""

OBJECTS = (
    "entry_id",
    "lease_id",
    "id",
    "in_progress_lease_id",
    "decision_id",
    "completion_id",
    "lookup_id",
    "audit_id",
)
"""Fields of responses that name something of one tenant; `id` is a lease's."""

_CANARY = re.compile(r"canary \d+\.")


@dataclass(frozen=True, slots=True)
class Scope:
    """Within what an answer may be shared."""

    tenant: str
    namespace: str
    system: str
    model: str


SCOPES = tuple(Scope(*each) for each in itertools.product(TENANTS, NAMESPACES, SYSTEMS, MODELS))


class Leak(AssertionError):
    """Something of one scope was seen in another."""


class Seen:
    """Remembers where each canary and each id was seen first; seeing it elsewhere raises `Leak`."""

    def __init__(self) -> None:
        self.canaries: dict[str, Scope] = {}
        self.ids: dict[str, Scope] = {}
        self._numbers = itertools.count()

    def canary(self, scope: Scope) -> str:
        """Return a text that belongs to `scope`."""
        text = self.unclaimed()
        self.canaries[text] = scope
        return text

    def unclaimed(self) -> str:
        """Return a text for whoever sees it first."""
        return f"canary {next(self._numbers)}."

    def look(self, scope: Scope, response: Message) -> None:
        """Check everything that a response for `scope` says."""
        for name, value in texts(response):
            if name in OBJECTS:
                self._claim(self.ids, value, scope, name)
            for canary in _CANARY.findall(value):
                self._claim(self.canaries, canary, scope, name)

    def _claim(self, known: dict[str, Scope], value: str, scope: Scope, what: str) -> None:
        owner = known.setdefault(value, scope)
        if owner != scope:
            raise Leak(f"{what} {value!r} of {owner} was seen in {scope}")


def texts(message: Message) -> Iterator[tuple[str, str]]:
    """Yield every text of a message of ours, at any depth, with the name of its field."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from ((field.name, part) for part in (*value, *value.values()) if isinstance(part, str))
            continue
        parts = value if field.is_repeated else [value]
        if field.type == FieldDescriptor.TYPE_STRING:
            yield from ((field.name, part) for part in parts)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type.file.package.startswith("antiphon."):
            for part in parts:
                yield from texts(part)
