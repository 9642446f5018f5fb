"""The table at the end of `antiphon replay`."""

from __future__ import annotations

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.replay.samples import Samples
from antiphon_client.cli.replay.tally import Tally
from antiphon_client.cli.show import Row, money


def rows(tally: Tally, *, seconds: float) -> list[Row]:
    """Return what is told about a replay of `seconds` seconds."""
    outcomes = tally.outcomes
    stale = f", {outcomes[cache_pb2.OUTCOME_STALE]:,} stale" if outcomes[cache_pb2.OUTCOME_STALE] else ""
    rate = f", {tally.requests / seconds:,.1f}/s" if tally.requests and seconds > 0 else ""
    found: list[Row] = [
        ("requests", f"{tally.requests:,} in {seconds:,.1f} s{rate}"),
        (
            "hits",
            f"{tally.hits:,}{_share(tally.hit_share)}: {outcomes[cache_pb2.OUTCOME_EXACT]:,} exact, "
            f"{outcomes[cache_pb2.OUTCOME_SEMANTIC]:,} semantic{stale}",
        ),
        ("misses", f"{outcomes[cache_pb2.OUTCOME_MISS]:,}"),
    ]
    if outcomes[cache_pb2.OUTCOME_BYPASS]:
        found.append(("bypassed", f"{outcomes[cache_pb2.OUTCOME_BYPASS]:,}: the cache was not asked or too slow"))
    found += [
        ("hit latency", _latency(tally.hit_ms)),
        ("miss latency", _latency(tally.miss_ms)),
        ("tokens", f"{tally.input_tokens:,} in, {tally.output_tokens:,} out"),
        ("cost", money(tally.cost_nano_usd)),
        (
            "saved",
            f"{money(tally.saved_nano_usd)}: {tally.saved_input_tokens:,} in, {tally.saved_output_tokens:,} out",
        ),
        ("errors", f"{tally.failed:,}"),
    ]
    found += [(f"  {name}", f"{count:,}") for name, count in tally.errors.most_common()]
    if tally.degraded:
        found.append(("degraded", f"{tally.degraded.total():,}"))
        found += [(f"  {name}", f"{count:,}") for name, count in tally.degraded.most_common()]
    return found


def _share(share: float | None) -> str:
    return "" if share is None else f" ({share:.1%})"


def _latency(samples: Samples) -> str:
    p50, p99 = samples.percentile(50), samples.percentile(99)
    return "none" if p50 is None or p99 is None else f"p50 {p50:,.1f} ms, p99 {p99:,.1f} ms"
