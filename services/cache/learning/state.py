"""What a namespace learned, as a value that the store can keep: JSON-able, versioned, checked in full when it is read.

A state that is of another version, another ladder (another verifier), another comparer, or damaged is refused: counts
by rung mean nothing there, and starting cold is safe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from services.cache.learning import rivals
from services.cache.learning.drift import Drift
from services.cache.learning.entry_evidence import KEPT
from services.cache.learning.labels import Source
from services.cache.learning.learner import HELD, Learner

FORMAT, VERSION = "antiphon-cache-learning", 1

MOST = 2.0**53
"""Of any count: JSON's numbers are exact up to here."""


class StateRefused(ValueError):
    """A state that cannot be used here; says why."""


def dumped(learner: Learner, comparer: str) -> dict[str, Any]:
    """The state of a learner; `comparer` is the version of the one that its labels are from."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "ladder": learner.ladder.key(),
        "comparer": comparer,
        "counts": {source.value: [list(row) for row in rows] for source, rows in learner.counts.items()},
        "met": list(learner.met),
        "hits": list(learner.hits),
        "entries": [list(entry) for entry in learner.entries],
        "rivals": [[*one, *other] for one, other in learner.rivals],
        "drift": [learner.drift.total, learner.drift.seen, learner.drift.alarms],
        "held": learner.held,
    }


def restore(state: object, learner: Learner, comparer: str) -> None:
    """Let a new learner go on from a state. Raises StateRefused: throw the learner away then."""
    if not isinstance(state, Mapping):
        raise StateRefused("a state is an object")
    for name, mine in (
        ("format", FORMAT),
        ("version", VERSION),
        ("ladder", learner.ladder.key()),
        ("comparer", comparer),
    ):
        if state.get(name) != mine or isinstance(state.get(name), bool):
            raise StateRefused(f"another {name}")
    rungs = len(learner.ladder)
    counts = state.get("counts")
    if not isinstance(counts, Mapping) or set(counts) != {source.value for source in Source}:
        raise StateRefused("counts of other sources")
    for source in Source:
        rows = _list(counts[source.value], rungs)
        learner.counts[source] = [[_whole(one) for one in _list(row, 2)] for row in rows]
    learner.met = [_number(one) for one in _list(state.get("met"), rungs)]
    learner.hits = [_number(one) for one in _list(state.get("hits"), rungs)]
    entries = _list(state.get("entries"))
    if len(entries) > KEPT:
        raise StateRefused("too many entries")
    for entry, wrong, expected in (_list(row, 3) for row in entries):
        if not isinstance(entry, str):
            raise StateRefused("an entry's id is text")
        learner.entries.add(entry, wrong=_number(wrong), expected=_number(expected))
    _restore_rivals(state, learner)
    total, seen, alarms = _list(state.get("drift"), 3)
    learner.held = _whole(state.get("held"))
    if learner.held > HELD:
        raise StateRefused("held for too long")
    try:
        learner.drift = Drift(_number(total), _whole(seen), _whole(alarms))
    except ValueError as error_:
        raise StateRefused(str(error_)) from error_
    learner.renew()


def _restore_rivals(state: Mapping[Any, Any], learner: Learner) -> None:
    """Absent in states from before they were noted."""
    pairs = _list(state.get("rivals", []))
    if len(pairs) > rivals.KEPT:
        raise StateRefused("too many rivals")
    for one, its, other, others in (_list(row, 4) for row in pairs):
        if not all(isinstance(part, str) for part in (one, its, other, others)):
            raise StateRefused("an entry's id and its answer's digest are text")
        learner.rivals.note((one, its), (other, others), same=False)


def _list(value: object, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise StateRefused("a list of another length, or none")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StateRefused("no number")
    if not (math.isfinite(value) and 0 <= value <= MOST):
        raise StateRefused("a number out of range")
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        raise StateRefused("no count")
    return value
