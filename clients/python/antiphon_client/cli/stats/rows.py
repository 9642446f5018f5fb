"""What statistics say in words, and how fast they grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.show import Row, money


def rows(stats: cache_pb2.GetStatsResponse) -> list[Row]:
    """Return the statistics as rows."""
    lookups = stats.lookups
    hits = hits_of(lookups)
    tiers = f"{lookups.exact:,} exact, {lookups.semantic:,} semantic"
    tiers += f", {lookups.stale:,} stale" if lookups.stale else ""
    found = [
        ("entries", f"{stats.entries_valid:,} valid, {stats.entries_expired:,} expired"),
        ("size", f"{stats.bytes / 1e6:,.1f} MB"),
        (
            "hits",
            f"{hits:,}{_share(hits, hits + lookups.miss)}: {tiers}",
        ),
        ("misses", f"{lookups.miss:,}"),
        ("bypassed", f"{lookups.bypass:,}{_reasons(stats.bypasses)}"),
        ("saved", f"{money(stats.cost_saved.nano_usd)}, {stats.usage_saved.output_tokens:,} output tokens"),
        ("evicted", f"{stats.evictions:,}{_reasons(stats.evictions_by_reason)}"),
        ("embedder", stats.embedder),
        ("store", "answers" if stats.store_healthy else "does not answer"),
    ]
    if stats.HasField("error_budget"):
        budget = stats.error_budget
        believed = f"as believed of {budget.hits:,.0f} semantic hits"
        found.append(("error budget", f"{budget.spent:.0%} of {budget.max_error_rate:.1%} spent, {believed}"))
    if stats.audits.HasField("wrong_share"):
        audits = stats.audits
        share = f"{audits.wrong_share:.1%} wrong ({audits.wrong_share_low:.1%} to {audits.wrong_share_high:.1%})"
        found.append(("audited", f"{share} of {audits.agreed + audits.differed:,}"))
    if stats.fetches or stats.fetch_failures:
        failed = f", {stats.fetch_failures:,} could not be" if stats.fetch_failures else ""
        found.append(("from the store", f"{stats.fetches:,} answers fetched{failed}"))
    if stats.embeddings_waiting:
        found.append(("to be embedded", f"{stats.embeddings_waiting:,} entries, until then found by their own words"))
    if stats.writes_not_stored:
        found.append(("not stored", f"{stats.writes_not_stored:,} writes while the store was down"))
    found += [(f"not served: {reason}", f"{count:,}") for reason, count in sorted(stats.vetoes.items())]
    return found


def hits_of(lookups: cache_pb2.LookupCounts) -> int:
    """Lookups that were answered from the cache; a stale answer is one, too."""
    return lookups.exact + lookups.semantic + lookups.stale


@dataclass(frozen=True, slots=True)
class Growth:
    """Between two readings: lookups, hits and misses per second, and hits among hits and misses."""

    lookups: float
    hits: float
    misses: float
    hit_share: float | None

    def by_row(self) -> dict[str, str]:
        """Return what stands beside the rows of these names."""
        share = "" if self.hit_share is None else f" ({self.hit_share:.1%})"
        return {"hits": f"{self.hits:,.1f}/s{share}", "misses": f"{self.misses:,.1f}/s"}

    def line(self) -> str:
        """Return it as a part of a line."""
        share = "–" if self.hit_share is None else f"{self.hit_share:.1%}"
        return f"{self.lookups:,.1f} lookups/s, {share} hits"


def growth(before: cache_pb2.GetStatsResponse | None, now: cache_pb2.GetStatsResponse, seconds: float) -> Growth | None:
    """Return how fast the counts grew, or None if they do not belong together: the server was restarted."""
    if before is None or before.start_time != now.start_time or seconds <= 0:
        return None
    a, b = before.lookups, now.lookups
    hits = hits_of(b) - hits_of(a)
    misses = b.miss - a.miss
    bypasses = b.bypass - a.bypass
    answered = hits + misses
    return Growth(
        (answered + bypasses) / seconds, hits / seconds, misses / seconds, hits / answered if answered else None
    )


def _share(hits: int, asked: int) -> str:
    return f" ({hits / asked:.1%})" if asked else ""


def _reasons(counts: Mapping[str, int]) -> str:
    reasons = sorted(counts.items())
    return ": " + ", ".join(f"{count:,} {reason}" for reason, count in reasons) if reasons else ""
