"""A connection finds the store where it is, and again when it has moved."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from services.chassis.errors import FailedPrecondition, Reason, Unavailable
from services.chassis.settings import SettingsError, SuiteSettings
from services.storage import CollectionSpec, Connection, Index, IndexKind, Place, Point, locate, read_api_key
from tests.integration.edgestore.store_process import StoreProcess

SPEC = CollectionSpec("notes", indexes=(Index("ns", IndexKind.TENANT),))
ID = "00000000-0000-0000-0000-000000000001"


@asynccontextmanager
async def connected(settings: SuiteSettings) -> AsyncIterator[Connection]:
    connection = Connection(lambda: locate(settings), timeout=10.0)
    try:
        yield connection
    finally:
        await connection.aclose()


async def _note(connection: Connection) -> object:
    async with connection.collection(SPEC) as collection:
        found = await collection.get([ID])
    return found[0].payload["note"] if found else None


async def test_it_follows_the_store_to_another_port(process: StoreProcess) -> None:
    async with connected(SuiteSettings(state_dir=process.state_dir)) as connection:
        with pytest.raises(Unavailable) as before:
            await _note(connection)
        assert before.value.reason is Reason.STORE_UNAVAILABLE
        process.start()
        first = process.url
        async with connection.collection(SPEC) as collection:
            await collection.upsert([Point(ID, None, {"ns": "a", "note": "kept"})], durable=True)
        process.kill()
        with pytest.raises(Unavailable):
            await _note(connection)
        with socket.create_server(("127.0.0.1", urlsplit(first).port or 0)):
            process.start()
            assert process.url != first
            assert await _note(connection) == "kept"


async def test_it_reads_the_token_where_the_operator_keeps_it(process: StoreProcess, tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_text("of-the-operator\n")
    process.environ["ANTIPHON_EDGESTORE_TOKEN_FILE"] = str(file)
    process.start()
    settings = SuiteSettings(state_dir=process.state_dir, edgestore_token_file=file)
    assert locate(settings) == Place(process.url, "of-the-operator")
    async with connected(settings) as connection:
        assert await _note(connection) is None


async def test_a_refused_token_is_read_again(process: StoreProcess, tmp_path: Path) -> None:
    process.start()
    file = tmp_path / "token"
    file.write_text("of-yesterday")
    async with connected(SuiteSettings(state_dir=process.state_dir, edgestore_token_file=file)) as connection:
        with pytest.raises(FailedPrecondition):
            await _note(connection)
        file.write_text(process.token)
        assert await _note(connection) is None


def test_a_servers_key_that_cannot_be_read_is_a_wrong_setting_at_the_start_and_a_store_that_is_away_later(
    tmp_path: Path,
) -> None:
    key = tmp_path / "key"
    settings = SuiteSettings(state_dir=tmp_path, qdrant_url="http://127.0.0.1:6334", qdrant_api_key_file=key)
    with pytest.raises(SettingsError, match="ANTIPHON_QDRANT_API_KEY_FILE"):
        read_api_key(settings)
    with pytest.raises(Unavailable):
        locate(settings)
    key.write_text(" secret\n")
    assert locate(settings) == Place("http://127.0.0.1:6334", "secret")
