"""What a replay counts: percentiles in bounded memory, and one object per request."""

from __future__ import annotations

import math

import grpc
from google.protobuf import duration_pb2
from hypothesis import given
from hypothesis import strategies as st

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client.cli.replay.lines import Line
from antiphon_client.cli.replay.report import rows
from antiphon_client.cli.replay.result import Result, request_of
from antiphon_client.cli.replay.samples import ACCURACY, LEAST, Samples
from antiphon_client.cli.replay.tally import Tally
from antiphon_client.errors import InvalidArgumentError, UnavailableError


@given(st.lists(st.floats(1e-3, 1e8), min_size=1, max_size=200), st.sampled_from([0.1, 1, 50, 99, 100]))
def test_percentiles_are_right_within_the_stated_accuracy(values: list[float], percent: float) -> None:
    samples = Samples()
    for value in values:
        samples.add(value)
    exact = sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
    found = samples.percentile(percent)
    assert found is not None
    assert abs(found - exact) <= exact * ACCURACY * (1 + 1e-6)


def test_samples_take_no_more_memory_the_more_there_are() -> None:
    samples = Samples()
    for index in range(200_000):
        samples.add(10 ** (index % 11_000 / 1_000 - 3))
    assert len(samples) == 200_000
    assert len(samples._buckets) <= 2_600


def test_no_samples_have_no_percentile_and_a_zero_is_the_least() -> None:
    samples = Samples()
    assert samples.percentile(50) is None
    samples.add(0.0)
    assert math.isclose(samples.percentile(50) or 0, LEAST, rel_tol=0.01)


def info(outcome: cache_pb2.Outcome.ValueType, **fields: object) -> completion_pb2.CompletionInfo:
    return completion_pb2.CompletionInfo(cache=completion_pb2.CacheInfo(outcome=outcome), **fields)


def test_the_tally_is_the_sum_of_all_results() -> None:
    tally = Tally()
    served = cache_pb2.ServedFrom(
        usage=llm_pb2.Usage(input_tokens=3, output_tokens=4), cost_saved=llm_pb2.Cost(nano_usd=50)
    )
    bought = {"usage": llm_pb2.Usage(input_tokens=10, output_tokens=20), "cost": llm_pb2.Cost(nano_usd=700)}
    tally.add(Result(0, 1.0, info(cache_pb2.OUTCOME_EXACT, served_from=served)))
    tally.add(Result(1, 3.0, info(cache_pb2.OUTCOME_SEMANTIC, served_from=served)))
    tally.add(Result(2, 100.0, info(cache_pb2.OUTCOME_MISS, **bought)))
    tally.add(Result(3, 900.0, info(cache_pb2.OUTCOME_BYPASS, degraded=["cache_timeout"], **bought)))
    tally.add(Result(4, 5.0, error=UnavailableError("down", reason="STORE_UNAVAILABLE")))
    tally.add(Result(5, 5.0, error=UnavailableError("down", reason="STORE_UNAVAILABLE")))
    told = tally.as_json(seconds=2.0, interrupted=False)
    expected = {
        "requests": 6,
        "hits_exact": 1,
        "hits_semantic": 1,
        "misses": 1,
        "bypasses": 1,
        "errors": 2,
        "errors_by_code": {"UNAVAILABLE STORE_UNAVAILABLE": 2},
        "degraded": {"cache_timeout": 1},
        "input_tokens": 20,
        "output_tokens": 40,
        "cost_nano_usd": 1_400,
        "saved_input_tokens": 6,
        "saved_output_tokens": 8,
        "saved_nano_usd": 100,
        "seconds": 2.0,
        "interrupted": False,
    }
    assert {key: told[key] for key in expected} == expected
    for key, ms in {"hit_p50_ms": 1, "hit_p99_ms": 3, "miss_p50_ms": 100, "miss_p99_ms": 100}.items():
        assert math.isclose(told[key], ms, rel_tol=0.01), key
    shown = dict(rows(tally, seconds=2.0))
    assert shown["hits"] == "2 (50.0%): 1 exact, 1 semantic"
    assert shown["  UNAVAILABLE STORE_UNAVAILABLE"] == "2"


def test_a_replay_of_nothing_has_no_percentiles() -> None:
    told = Tally().as_json(seconds=0.0, interrupted=False)
    assert told["requests"] == 0
    assert [told[key] for key in ("hit_p50_ms", "hit_p99_ms", "miss_p50_ms", "miss_p99_ms")] == [None] * 4
    assert dict(rows(Tally(), seconds=0.0))["requests"] == "0 in 0.0 s"


def test_a_record_says_what_the_service_said_and_null_for_the_rest() -> None:
    decision = cache_pb2.Decision(
        similarity=0.5, threshold=0.92, veto_reasons=["below_threshold"], age=duration_pb2.Duration(seconds=1)
    )
    said = completion_pb2.CompletionInfo(
        model="m",
        cost=llm_pb2.Cost(nano_usd=7),
        cache=completion_pb2.CacheInfo(outcome=cache_pb2.OUTCOME_MISS, decision=decision),
    )
    assert Result(3, 1.23456, said).record() == {
        "index": 3,
        "outcome": "MISS",
        "similarity": 0.5,
        "p_wrong": None,
        "matched_prompt": None,
        "veto_reasons": ["below_threshold"],
        "model": "m",
        "cost_nano_usd": 7,
        "ms": 1.235,
        "error": None,
    }
    error = InvalidArgumentError("no such model", reason="UNKNOWN_MODEL", fields={"model": "is not known"})
    assert Result(4, 2.0, error=error).record() == {
        "index": 4,
        "outcome": None,
        "similarity": None,
        "p_wrong": None,
        "matched_prompt": None,
        "veto_reasons": None,
        "model": None,
        "cost_nano_usd": None,
        "ms": 2.0,
        "error": "INVALID_ARGUMENT UNKNOWN_MODEL: no such model; model: is not known",
    }
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT


def test_an_outcome_of_a_newer_server_is_counted_and_shown_by_its_number() -> None:
    newer = completion_pb2.CompletionInfo()
    newer.cache.ParseFromString(b"\x08\x63")  # field 1, a number that this version has no name for
    tally = Tally()
    tally.add(Result(0, 1.0, newer))
    assert tally.answered == 1
    assert Result(0, 1.0, newer).record()["outcome"] == "99"


def test_a_request_carries_what_the_line_says() -> None:
    bare = request_of(Line(0, "Hi"))
    assert [(m.role, m.parts[0].text) for m in bare.messages] == [(llm_pb2.ROLE_USER, "Hi")]
    assert (bare.namespace, bare.model) == ("default", "")
    full = request_of(Line(0, "Hi", "n", "Be kind.", "m"))
    assert [(m.role, m.parts[0].text) for m in full.messages] == [
        (llm_pb2.ROLE_SYSTEM, "Be kind."),
        (llm_pb2.ROLE_USER, "Hi"),
    ]
    assert (full.namespace, full.model) == ("n", "m")
