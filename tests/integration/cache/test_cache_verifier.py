"""Which verifier a cache process goes by: the packaged one, a file, or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from antiphon.cache.v1 import cache_pb2 as pb
from antiphon_client import AsyncCacheClient
from tests.integration.cache.cache_process import EX_CONFIG, CacheProcess
from tests.integration.tenants.methods import answer, query

SHIPPED = resources.files("services.cache").joinpath("verifier", "minilm.json").read_text(encoding="utf-8")
REWORDED = "How can I reset my password?"


def foreign() -> str:
    return json.dumps({**json.loads(SHIPPED), "embedder": "another_0123456789"})


def of_another_guard() -> str:
    return json.dumps({**json.loads(SHIPPED), "guard": 1_000_000})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "the file cannot be read (FileNotFoundError)"),
        (b"\xff\xfe", "the file is not text in UTF-8"),
        (b"", "is no verifier that this version can use"),
        (b"{}", "is no verifier that this version can use"),
        (of_another_guard().encode(), "is no verifier that this version can use"),
        (foreign().encode(), "was fitted to the embedder another_0123456789"),
    ],
    ids=["absent", "bytes", "empty", "object", "guard", "foreign"],
)
def test_a_file_that_cannot_be_used_ends_the_start(
    start: Callable[..., CacheProcess], tmp_path: Path, content: bytes | None, told: str
) -> None:
    file = tmp_path / "verifier.json"
    if content is not None:
        file.write_bytes(content)
    status, said = start(ANTIPHON_CACHE_VERIFIER=str(file)).ended()
    assert status == EX_CONFIG
    assert "ANTIPHON_CACHE_VERIFIER: " in said
    assert told in said


def test_an_unknown_preset_ends_the_start(start: Callable[..., CacheProcess]) -> None:
    status, said = start(ANTIPHON_CACHE_PRESET="lax").ended()
    assert (status, "ANTIPHON_CACHE_PRESET: " in said) == (EX_CONFIG, True)


async def test_a_file_and_a_preset_are_used(start: Callable[..., CacheProcess], tmp_path: Path) -> None:
    file = tmp_path / "verifier.json"
    changed = json.loads(SHIPPED)
    changed["presets"]["strict"] = {"v": 0.999, "cosine": 0.99}
    file.write_text(json.dumps(changed), encoding="utf-8")
    cache = start(ANTIPHON_CACHE_VERIFIER=str(file), ANTIPHON_CACHE_PRESET="strict").serving()
    async with AsyncCacheClient(cache.address) as client:
        await client.put(pb.PutRequest(query=query("How do I reset my password?"), answer=answer("!")))
        found = await client.lookup(pb.LookupRequest(query=query(REWORDED)))
    assert found.outcome == pb.OUTCOME_MISS
    assert (found.decision.threshold, found.decision.score_threshold) == (0.99, 0.999)
    assert list(found.decision.veto_reasons) == ["unsure"]


async def test_a_least_cosine_is_the_simple_mode(start: Callable[..., CacheProcess]) -> None:
    cache = start(ANTIPHON_CACHE_MIN_SIMILARITY="0.9").serving()
    async with AsyncCacheClient(cache.address) as client:
        await client.put(pb.PutRequest(query=query("How do I reset my password?"), answer=answer("!")))
        found = await client.lookup(pb.LookupRequest(query=query(REWORDED)))
        assert found.outcome == pb.OUTCOME_SEMANTIC
        assert found.decision.threshold == 0.9
        assert not found.decision.HasField("p_wrong")
        assert not found.decision.HasField("score_threshold")
        policy = pb.CachePolicy(max_error_rate=0.1)
        limited = await client.lookup(pb.LookupRequest(query=query(REWORDED), policy=policy))
    assert list(limited.decision.veto_reasons) == ["uncalibrated"]
