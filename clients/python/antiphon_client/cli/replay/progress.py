"""How far a replay has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from antiphon_client.cli import progress
from antiphon_client.cli.replay.tally import Tally


@contextmanager
def shown(tally: Tally, total: int, *, bar: bool) -> Iterator[Callable[[], None]]:
    """Show the tally on stderr; call what is yielded after each request."""
    begun = time.monotonic()
    with progress.shown("replay", total, bar=bar) as update:
        yield lambda: update(tally.requests, _state(tally, total, time.monotonic() - begun))


def _state(tally: Tally, total: int, seconds: float) -> str:
    rate = tally.requests / seconds if seconds > 0 else 0.0
    share = "–" if tally.hit_share is None else f"{tally.hit_share:.1%}"
    return f"{tally.requests:,}/{total:,} · {rate:,.0f}/s · hits {share} · errors {tally.failed:,}"
