from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from qdrant_client import grpc as pb

from services.cache import tailing
from services.cache.rotation import attempts, filling, moving, plan, rotating
from tests.integration.cache.cache_process import CacheProcess
from tests.integration.cache.rotating_cache import RotatingCache
from tests.integration.cache.stored_cache import StoredCache
from tests.integration.edgestore.store_process import StoreProcess

OTHER_KEY = bytes(range(1, 33))


@pytest.fixture(scope="module")
def store_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """One embedded store for a module: a start takes two seconds."""
    process = StoreProcess(tmp_path_factory.mktemp("cache") / "state")
    yield process
    process.close()


@pytest.fixture
def store(store_process: StoreProcess) -> StoreProcess:
    """An embedded store that runs and is empty; a test may kill it."""
    return emptied(store_process)


def emptied(store_process: StoreProcess) -> StoreProcess:
    """Start it unless it runs, and drop all that is in it."""
    if store_process._process is None or store_process._process.poll() is not None:
        store_process.start()
    with grpc.insecure_channel(store_process.url.removeprefix("http://")) as channel:
        collections, token = pb.CollectionsStub(channel), (("api-key", store_process.token),)
        for found in collections.List(pb.ListCollectionsRequest(), metadata=token).collections:
            collections.Delete(pb.DeleteCollection(collection_name=found.name), metadata=token)
    return store_process


@asynccontextmanager
async def making(store: StoreProcess, **given: object) -> AsyncIterator[Callable[..., StoredCache]]:
    """Makes caches over a store, with what is given unless a test says otherwise; all are stopped in the end."""
    made: list[StoredCache] = []

    def make(**how: object) -> StoredCache:
        made.append(StoredCache(store, **{**given, **how}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for cache in made:
        await cache.stop()


@contextmanager
def starting(store: StoreProcess) -> Iterator[Callable[..., CacheProcess]]:
    """Starts processes over a store; all are killed in the end."""
    started: list[CacheProcess] = []

    def starter(**environ: str) -> CacheProcess:
        started.append(CacheProcess(store.state_dir, **environ))
        return started[-1]

    yield starter
    for cache in started:
        if cache.process.poll() is None:
            cache.end(signal.SIGKILL)
        elif cache.process.stderr is not None:
            cache.process.stderr.close()
    (store.state_dir / "fingerprint.key").unlink(missing_ok=True)


@pytest.fixture
async def caches(store: StoreProcess) -> AsyncIterator[Callable[..., StoredCache]]:
    """Makes caches over the store."""
    async with making(store) as make:
        yield make


@pytest.fixture
def start(store: StoreProcess) -> Iterator[Callable[..., CacheProcess]]:
    with starting(store) as starter:
        yield starter


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the embedder whose pauses are short."""
    monkeypatch.setattr(tailing, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(rotating, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(rotating, "DROP_SECONDS", 0.1)
    monkeypatch.setattr(plan, "SETTLE_SECONDS", 0.5)
    monkeypatch.setattr(attempts, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(attempts, "UNABLE_SECONDS", 2.0)
    monkeypatch.setattr(filling, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(filling, "FOLLOW_SECONDS", 0.02)
    monkeypatch.setattr(moving, "AGAIN_SECONDS", 0.05)


@pytest.fixture
async def make(store: StoreProcess) -> AsyncIterator[Callable[..., RotatingCache]]:
    """Makes replicas that can change their embedder, over one store."""
    made: list[RotatingCache] = []

    def maker(**how: int) -> RotatingCache:
        made.append(RotatingCache(store, **how))
        return made[-1]

    yield maker
    for cache in made:
        if cache.running:
            await cache.die()


@pytest.fixture(scope="module")
def second_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """The store of the suite that imports."""
    process = StoreProcess(tmp_path_factory.mktemp("second") / "state")
    yield process
    process.close()


@pytest.fixture
def second(second_process: StoreProcess) -> StoreProcess:
    return emptied(second_process)


@pytest.fixture
async def fresh(second: StoreProcess) -> AsyncIterator[Callable[..., StoredCache]]:
    """Makes caches over the second store, with another key."""
    async with making(second, key=OTHER_KEY) as make:
        yield make


@pytest.fixture
def start_second(second: StoreProcess) -> Iterator[Callable[..., CacheProcess]]:
    with starting(second) as starter:
        yield starter
