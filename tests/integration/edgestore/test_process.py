"""The embedded store as a process: start, stop, kill, and who may have the folder open."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from services.chassis.errors import Unavailable
from services.storage import Collection, CollectionSpec, Index, IndexKind, Point, Store
from tests.integration.edgestore.store_process import StoreProcess

SPEC = CollectionSpec(
    "entries", 8, indexes=(Index("ns", IndexKind.TENANT), Index("ver", IndexKind.INTEGER)), alias="now"
)
VECTOR = np.full(8, 0.5, np.float32)


async def open_store(process: StoreProcess) -> tuple[Store, Collection]:
    store = await Store.connect(process.url, api_key=process.token, timeout=10.0)
    return store, await store.ensure(SPEC)


async def test_every_acknowledged_write_survives_sigkill(process: StoreProcess) -> None:
    acknowledged: dict[str, int] = {}
    for round_ in range(3):
        process.start()
        store, collection = await open_store(process)
        stored = {
            record.id: record.payload["ver"] async for page in collection.scroll(None, order_by=None) for record in page
        }
        assert stored.items() >= acknowledged.items()

        async def write_until_killed(collection: Collection = collection, round_: int = round_) -> None:
            for number in range(100_000):
                id_ = str(UUID(int=number))
                try:
                    await collection.upsert_newer([Point(id_, VECTOR, {"ns": "a", "ver": round_ + 1})], durable=True)
                except Exception:  # noqa: BLE001 the kill may show in any way; only acknowledgements count
                    return
                acknowledged[id_] = round_ + 1

        writers = [asyncio.create_task(write_until_killed()) for _ in range(3)]
        before = len(acknowledged) if round_ == 0 else 0
        goal = 150 + 97 * round_
        while sum(version == round_ + 1 for version in acknowledged.values()) - before < goal:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        process.kill()
        await asyncio.gather(*writers)
        await store.aclose()
    process.start()
    store, collection = await open_store(process)
    records = await collection.get(list(acknowledged), vectors=True)
    await store.aclose()
    assert {record.id: record.payload["ver"] for record in records}.items() >= acknowledged.items()
    assert all(record.vector is not None and record.vector.tobytes() == VECTOR.tobytes() for record in records)


async def test_sigterm_ends_cleanly_and_keeps_everything(process: StoreProcess) -> None:
    process.start()
    store, collection = await open_store(process)
    ids = [str(uuid4()) for _ in range(50)]
    await collection.upsert([Point(id_, VECTOR, {"ver": 1}) for id_ in ids], durable=False)
    await store.aclose()
    assert process.stop() == 0
    assert not process.run_file.exists()
    process.start()
    store, collection = await open_store(process)
    assert await collection.count() == 50
    assert await store.resolve("now") == "entries"
    await store.aclose()
    assert process.stop() == 0


def test_the_run_file_says_who_and_where(process: StoreProcess) -> None:
    process.start()
    content = json.loads(process.run_file.read_text())
    assert content["pid"] == process.pid
    assert content["address"].startswith("127.0.0.1:")


def test_metrics_are_served_where_the_run_file_says(process: StoreProcess) -> None:
    process.environ["ANTIPHON_METRICS_LISTEN"] = "127.0.0.1:0"
    process.start()
    address = json.loads(process.run_file.read_text())["metrics"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert "antiphon_edgestore_broken_collections 0.0" in text


def test_two_processes_cannot_have_one_folder(process: StoreProcess) -> None:
    process.start()
    second = StoreProcess(process.state_dir)
    rival = subprocess.run(
        [sys.executable, "-m", "services.edgestore"], env=second.environ, capture_output=True, timeout=30, check=False
    )
    assert rival.returncode == 78
    assert f"in use by process {process.pid}" in rival.stderr.decode()
    assert process.run_file.exists()
    process.kill()
    process.start()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"ANTIPHON_EDGESTORE_LISTEN": "0.0.0.0:0"}, "ANTIPHON_EDGESTORE_LISTEN"),
        ({"ANTIPHON_EDGESTORE_LISTEN": "example.org:0"}, "ANTIPHON_EDGESTORE_LISTEN"),
        ({"ANTIPHON_EDGESTORE_TOKEN_FILE": "/nonexistent/token"}, "ANTIPHON_EDGESTORE_TOKEN_FILE"),
        ({"ANTIPHON_EDGESTORE_TOKEN_FILE": "/dev/null"}, "ANTIPHON_EDGESTORE_TOKEN_FILE"),
        ({"ANTIPHON_EDGESTORE_COLOUR": "blue"}, "ANTIPHON_EDGESTORE_COLOUR"),
        ({"ANTIPHON_STATE_DIR": "/dev/null/state"}, "ANTIPHON_STATE_DIR"),
    ],
    ids=["every interface", "a name", "no token file", "empty token file", "unknown", "no folder"],
)
def test_a_wrong_setting_ends_the_start(process: StoreProcess, environ: dict[str, str], named: str) -> None:
    process.environ |= environ
    started = process.spawn()
    _, stderr = started.communicate(timeout=30)
    assert started.returncode == 78
    assert named in stderr.decode()
    assert "example.org" not in stderr.decode()


def test_a_port_in_use_is_named(process: StoreProcess, tmp_path: Path) -> None:
    process.start()
    other = StoreProcess(tmp_path / "other", ANTIPHON_EDGESTORE_LISTEN=process.url.removeprefix("http://"))
    started = other.spawn()
    _, stderr = started.communicate(timeout=30)
    assert started.returncode == 78
    assert "ANTIPHON_EDGESTORE_LISTEN" in stderr.decode()


def test_the_token_is_private_and_stays(process: StoreProcess) -> None:
    process.start()
    token = process.token
    assert len(token) >= 32
    assert stat.S_IMODE((process.state_dir / "edgestore.token").stat().st_mode) == 0o600
    assert process.stop() == 0
    process.start()
    assert process.token == token


async def test_a_given_token_is_used(process: StoreProcess, tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_text("of-the-operator\n")
    process.environ["ANTIPHON_EDGESTORE_TOKEN_FILE"] = str(file)
    process.start()
    store = await Store.connect(process.url, api_key="of-the-operator", timeout=10.0)
    await store.ensure(SPEC)
    await store.aclose()


def test_it_ends_when_its_parent_is_gone(process: StoreProcess) -> None:
    ours, its = os.pipe()
    try:
        process.environ["ANTIPHON_PARENT_PIPE_FD"] = str(ours)
        process.start(pass_fds=(ours,))
        os.close(its)
        assert process.wait() == 0
    finally:
        os.close(ours)


async def test_leftovers_of_a_kill_do_not_stop_the_start(process: StoreProcess) -> None:
    process.start()
    store, collection = await open_store(process)
    await collection.upsert([Point(str(uuid4()), VECTOR, {"ver": 1})], durable=True)
    await store.aclose()
    process.kill()
    folder = process.state_dir / "store"
    for leftover in (".new-half", ".new-other", ".dropped-old"):
        (folder / leftover / "shard" / "wal").mkdir(parents=True)
        (folder / leftover / "shard" / "wal" / "torn").write_bytes(b"\0" * 10)
    (folder / ".aliases.json.new").write_bytes(b"{")
    process.start()
    store, collection = await open_store(process)
    assert await collection.count() == 1
    await store.aclose()
    assert sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) == ["entries"]


async def test_a_broken_collection_keeps_its_files_and_others_are_served(process: StoreProcess) -> None:
    process.start()
    store, collection = await open_store(process)
    await collection.upsert([Point(str(uuid4()), VECTOR, {"ver": 1})], durable=True)
    await store.aclose()
    assert process.stop() == 0
    broken = process.state_dir / "store" / "broken"
    (broken / "shard").mkdir(parents=True)
    (broken / "collection.json").write_text('{"schema": 1, "vectors": {}}')
    process.start()
    store, collection = await open_store(process)
    assert await collection.count() == 1
    with pytest.raises(Unavailable) as refused:
        await store.ensure(CollectionSpec("broken", 8))
    assert "INTERNAL" in str(refused.value)
    await store.aclose()
    assert (broken / "collection.json").exists()


async def test_a_kill_at_any_moment_of_creating_and_deleting_leaves_a_store_that_starts(process: StoreProcess) -> None:
    for round_ in range(4):
        process.start()
        store, _ = await open_store(process)
        names = [f"made_{round_}_{number}" for number in range(200)]
        made = 0

        async def make(store: Store = store, names: list[str] = names) -> None:
            nonlocal made
            for name in names:
                await store.ensure(CollectionSpec(name, 8))
                made += 1
                await store._client.delete_collection(name)

        making = asyncio.create_task(make())
        while made < 2 + round_:  # noqa: ASYNC110
            await asyncio.sleep(0.003 * (round_ + 1))
        process.kill()
        await asyncio.gather(making, return_exceptions=True)
        await store.aclose()
    process.start()
    store, collection = await open_store(process)
    assert await collection.count() == 0
    await store.aclose()
    assert process.stop() == 0


def test_sigint_is_a_clean_end_too(process: StoreProcess) -> None:
    process.start()
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 0
