"""Immutable values that cost little to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A dataclass with slots that type checkers hold to be frozen.

    `frozen=True` sets each field through `object.__setattr__`, which takes three times as long; a lookup makes some
    twenty of them. For what is made on the hot path and goes no further than to code that is type-checked.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
