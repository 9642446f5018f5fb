"""The sum of what came of all lines; its memory does not grow with their number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon_client.cli.replay.result import HITS, Result, error_name
from antiphon_client.cli.replay.samples import Samples
from antiphon_client.errors import AntiphonError


@dataclass(slots=True)
class Tally:
    """Counts, tokens, money in nano-USD, latencies in milliseconds."""

    outcomes: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    first_errors: dict[str, AntiphonError] = field(default_factory=dict)
    degraded: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    saved_nano_usd: int = 0
    hit_ms: Samples = field(default_factory=Samples)
    miss_ms: Samples = field(default_factory=Samples)

    def add(self, result: Result) -> None:
        """Count one result."""
        if result.error is not None:
            name = error_name(result.error)
            self.errors[name] += 1
            self.first_errors.setdefault(name, result.error)
        if result.info is not None:
            self._add(result.info, result.ms)

    def _add(self, info: completion_pb2.CompletionInfo, ms: float) -> None:
        self.outcomes[info.cache.outcome] += 1
        self.degraded.update(info.degraded)
        self.input_tokens += info.usage.input_tokens
        self.output_tokens += info.usage.output_tokens
        self.cost_nano_usd += info.cost.nano_usd
        saved = info.served_from
        self.saved_input_tokens += saved.usage.input_tokens
        self.saved_output_tokens += saved.usage.output_tokens
        self.saved_nano_usd += saved.cost_saved.nano_usd
        if info.cache.outcome in HITS:
            self.hit_ms.add(ms)
        elif info.cache.outcome == cache_pb2.OUTCOME_MISS:
            self.miss_ms.add(ms)

    @property
    def answered(self) -> int:
        """Requests that got an answer."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """Requests that got an error."""
        return self.errors.total()

    @property
    def requests(self) -> int:
        """Requests that came to an end."""
        return self.answered + self.failed

    @property
    def hits(self) -> int:
        """Requests that were served from the cache."""
        return sum(self.outcomes[hit] for hit in HITS)

    @property
    def hit_share(self) -> float | None:
        """Hits among the requests that were answered, or None before the first."""
        return self.hits / self.answered if self.answered else None

    def as_json(self, *, seconds: float, interrupted: bool) -> dict[str, Any]:
        """Return the object of `--json`. `seconds`: how long it took."""
        return {
            "requests": self.requests,
            "hits_exact": self.outcomes[cache_pb2.OUTCOME_EXACT],
            "hits_semantic": self.outcomes[cache_pb2.OUTCOME_SEMANTIC],
            "hits_stale": self.outcomes[cache_pb2.OUTCOME_STALE],
            "misses": self.outcomes[cache_pb2.OUTCOME_MISS],
            "bypasses": self.outcomes[cache_pb2.OUTCOME_BYPASS],
            "errors": self.failed,
            "errors_by_code": dict(self.errors),
            "degraded": dict(self.degraded),
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_nano_usd": self.cost_nano_usd,
            "saved_input_tokens": self.saved_input_tokens,
            "saved_output_tokens": self.saved_output_tokens,
            "saved_nano_usd": self.saved_nano_usd,
            "hit_p50_ms": _rounded(self.hit_ms.percentile(50)),
            "hit_p99_ms": _rounded(self.hit_ms.percentile(99)),
            "miss_p50_ms": _rounded(self.miss_ms.percentile(50)),
            "miss_p99_ms": _rounded(self.miss_ms.percentile(99)),
            "seconds": round(seconds, 3),
            "interrupted": interrupted,
        }


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)
