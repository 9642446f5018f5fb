"""Finds enum numbers that this version does not know, anywhere in a message.

proto3 keeps unknown numbers, and code that switches over an enum would take them for its default. The walk visits only
the message types from which an enum field can be reached, and only fields that are set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.chassis.errors import InvalidRequest

_JSON = frozenset({"google.protobuf.Struct", "google.protobuf.ListValue", "google.protobuf.Value"})
"""Their enum has one number, and any other is read as null like it; a message holds millions of them."""

Find = Callable[[Message], str | None]
"""The path of the first unknown enum number in a message (`query.messages[2].role`), or None."""


def finder(descriptor: Descriptor, *, besides: str = "") -> Find | None:
    """A function that looks through messages of this type; None if no enum can be reached from it.

    `besides`: the name of a field of the message that is left out.
    """
    return _Finders().of(descriptor, besides)


def refuse_unknown(find: Find | None, message: Message) -> None:
    """Raise InvalidRequest for an enum number that is not known, with its path."""
    if find is not None and (path := find(message)) is not None:
        raise InvalidRequest("the enum number is not known to this server", field=path)


class _Finders:
    """One per root type; types may contain themselves, so a type is entered before its fields are looked at."""

    def __init__(self) -> None:
        self._walks: dict[str, _Walk] = {}

    def of(self, descriptor: Descriptor, besides: str) -> Find | None:
        root = _Walk()
        for field in descriptor.fields:
            if field.name != besides:
                self._add(root, field)
        return root.find if root.enums or root.messages or root.many else None

    def _walk(self, descriptor: Descriptor) -> _Walk:
        walk = self._walks.get(descriptor.full_name)
        if walk is None:
            walk = self._walks[descriptor.full_name] = _Walk()
            for field in descriptor.fields:
                self._add(walk, field)
        return walk

    def _add(self, walk: _Walk, field: FieldDescriptor) -> None:
        value = field
        is_map = _is_map(field)
        if is_map and field.message_type is not None:
            value = field.message_type.fields_by_name["value"]
        if value.enum_type is not None and not value.enum_type.is_closed:
            known = frozenset(value.enum_type.values_by_number)
            if field.is_repeated:
                walk.many.append((field.name, is_map, lambda number: None if number in known else ""))
            else:
                walk.enums.append((field.name, known))
        elif value.message_type is not None and _reaches_enum(value.message_type, set()):
            inner = self._walk(value.message_type)
            if field.is_repeated:
                walk.many.append((field.name, is_map, inner.find))
            else:
                walk.messages.append((field.name, inner))


class _Walk:
    """The fields of one message type that are, or lead to, enums."""

    __slots__ = ("enums", "many", "messages")

    def __init__(self) -> None:
        self.enums: list[tuple[str, frozenset[int]]] = []
        self.messages: list[tuple[str, _Walk]] = []
        self.many: list[tuple[str, bool, Callable[[Any], str | None]]] = []
        """Name, whether it is a map, and what gives the path below an item, empty if it is the item itself, or None."""

    def find(self, message: Any) -> str | None:
        for name, known in self.enums:
            if getattr(message, name) not in known:
                return name
        for name, walk in self.messages:
            if message.HasField(name) and (below := walk.find(getattr(message, name))) is not None:
                return f"{name}.{below}"
        for name, is_map, look in self.many:
            items = getattr(message, name)
            for index, item in enumerate(items.values() if is_map else items):
                if (below := look(item)) is not None:
                    # A map's keys are the caller's data and stay out of the path.
                    place = name if is_map else f"{name}[{index}]"
                    return f"{place}.{below}" if below else place
        return None


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _is_open_enum(field: FieldDescriptor) -> bool:
    # The parser itself puts unknown numbers of closed (proto2) enums among the unknown fields.
    return field.enum_type is not None and not field.enum_type.is_closed


def _reaches_enum(descriptor: Descriptor, seen: set[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    if descriptor.full_name in _JSON:
        return False
    return any(
        _is_open_enum(field) or (field.message_type is not None and _reaches_enum(field.message_type, seen))
        for field in descriptor.fields
    )
