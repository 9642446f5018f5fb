"""A request may use the fields that are honoured and no others: what is not known is refused by name, not ignored."""

from __future__ import annotations

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from services.edgestore.refused import unimplemented


def only(message: Message, *honoured: str, inside: str = "") -> None:
    """Refuse `message` if it sets a field other than `honoured`; `inside` is its path in the request, for the text."""
    for field, _ in message.ListFields():
        if field.name not in honoured:
            raise unimplemented(f"the field {inside}{'.' if inside else ''}{field.name} is not supported")
    unknown = UnknownFieldSet(message)
    if len(unknown):
        where = inside or message.DESCRIPTOR.name
        raise unimplemented(f"field number {unknown[0].field_number} of {where} is not supported")
