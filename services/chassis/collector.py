"""Python's cycle collector while much is built that stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def building() -> Iterator[None]:
    """Let nobody look for cycles inside, nor later among what is there by the end.

    The collector would walk over everything again and again while it grows, and find nothing. What is taken out of its
    sight (`gc.freeze`) is freed as ever once nobody refers to it, unless it is part of a cycle; so what is built must
    not have any.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
