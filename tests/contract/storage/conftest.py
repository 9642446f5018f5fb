"""The conformance suite runs against the embedded store, and against a real Qdrant server when one is named.

ANTIPHON_TEST_QDRANT_URL      its gRPC endpoint, http[s]://host:6334
ANTIPHON_TEST_QDRANT_API_KEY  its key, if it wants one
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from uuid import uuid4

import pytest
from qdrant_client import AsyncQdrantClient

from services.storage import CollectionSpec, Index, IndexKind, Store
from tests.integration.edgestore.store_process import StoreProcess

REAL_URL = os.environ.get("ANTIPHON_TEST_QDRANT_URL")
REAL_KEY = os.environ.get("ANTIPHON_TEST_QDRANT_API_KEY")

DIM = 8
INDEXES = (
    Index("ns", IndexKind.TENANT),
    Index("kind", IndexKind.KEYWORD),
    Index("ver", IndexKind.INTEGER),
    Index("updated_us", IndexKind.INTEGER),
    Index("score", IndexKind.FLOAT),
)


@pytest.fixture(scope="session", params=["edgestore", "qdrant"])
def endpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str | None]]:
    """URL and API key of the store under test."""
    if request.param == "qdrant":
        if REAL_URL is None:
            pytest.skip("ANTIPHON_TEST_QDRANT_URL is not set")
        yield REAL_URL, REAL_KEY
        return
    process = StoreProcess(tmp_path_factory.mktemp("edgestore")).start()
    yield process.url, process.token
    process.close()


@pytest.fixture
async def store(endpoint: tuple[str, str | None]) -> AsyncIterator[Store]:
    store = await Store.connect(endpoint[0], api_key=endpoint[1], timeout=20.0)
    yield store
    await store.aclose()


@pytest.fixture
async def client(endpoint: tuple[str, str | None]) -> AsyncIterator[AsyncQdrantClient]:
    """Qdrant's own client, high-level methods and all."""
    address = endpoint[0].rpartition("//")[2]
    host, _, port = address.rpartition(":")
    client = AsyncQdrantClient(
        host=host,
        grpc_port=int(port),
        https=endpoint[0].startswith("https"),
        prefer_grpc=True,
        check_compatibility=False,
        headers={"api-key": endpoint[1]} if endpoint[1] else None,
    )
    yield client
    await client.close()


@pytest.fixture
async def spec(client: AsyncQdrantClient) -> AsyncIterator[CollectionSpec]:
    """A specification with a name of its own; what it names is deleted afterwards."""
    spec = CollectionSpec(f"antiphon_test_{uuid4().hex}", DIM, indexes=INDEXES)
    yield spec
    await client.delete_collection(spec.name)


@pytest.fixture
def new_id() -> Callable[[], str]:
    return lambda: str(uuid4())
