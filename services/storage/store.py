"""The connection to the store: health, collections and aliases."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

import grpc
from qdrant_client import AsyncQdrantClient
from qdrant_client import grpc as pb

from services.chassis.errors import AntiphonError, FailedPrecondition
from services.storage import wire
from services.storage.calls import Calls, mismatch, status_of
from services.storage.collection import Collection
from services.storage.values import VECTOR_NAME, CollectionSpec, Index

DEFAULT_PORT = 6334
"""Qdrant's gRPC port (qdrant.tech/documentation/guides/configuration)."""

OLDEST_SERVER = (1, 17)
"""The first version that knows `update_mode` (qdrant pull request 7963). An older one would ignore the field and
overwrite newer answers without a word, hence the check in `ensure`."""

_SERVER_TITLE = "qdrant - vector search engine"

_CHANNEL: dict[str, int | str] = {
    # After a restart of the store the first call should find it: gRPC's default waits up to two minutes.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    # What one attempt to connect may take, TLS included (this is what gRPC reads this option as).
    "grpc.min_reconnect_backoff_ms": 2_000,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.ping_timeout_ms": 10_000,
    "grpc.max_send_message_length": 64 * 1024 * 1024,
    # A page of records; `Collection.scroll` aims far below it.
    "grpc.max_receive_message_length": 256 * 1024 * 1024,
}


class Store:
    """A Qdrant server, a cluster, or the embedded engine's process; they are the same to everyone above."""

    def __init__(self, client: AsyncQdrantClient, calls: Calls) -> None:
        self._client = client
        self._calls = calls

    @classmethod
    async def connect(cls, url: str, *, api_key: str | None, timeout: float) -> Store:
        """A store at `url` (`http://host:6334`, `https://…` for TLS: the gRPC endpoint); it need not be up.

        `timeout`: seconds that any one call may take. Raises ValueError when `url` cannot be one; its text does not
        repeat the URL.
        """
        host, port, tls = _endpoint(url)
        # In a thread: the client reads certificate stores from disk for its HTTP half, which is not used. The key
        # goes in as a header because as `api_key` it brings a warning about missing TLS, which loopback needs not.
        client = await asyncio.to_thread(
            AsyncQdrantClient,
            host=host,
            grpc_port=port,
            https=tls,
            prefer_grpc=True,
            check_compatibility=False,
            pool_size=1,
            headers={"api-key": api_key} if api_key else None,
            grpc_options=dict(_CHANNEL),
        )
        return cls(client, Calls(timeout))

    async def ping(self) -> bool:
        """Whether the store answers now; never raises."""
        try:
            await self._calls(self._health, None)
        except AntiphonError:
            return False
        return True

    async def aclose(self) -> None:
        """Close the connection; calls under way end as CANCELLED."""
        await self._client.close()

    async def ensure(self, spec: CollectionSpec) -> Collection:
        """The collection of `spec`: created with its payload indexes before any data, or checked if it exists.

        Raises FailedPrecondition(STORE_MISMATCH) when it exists with another dimension, distance or index type, when
        its alias belongs to another collection, or when the server is too old; Unavailable when the store is down.
        It drops nothing. Safe to repeat and to run in several processes at once.
        """
        await self._check_version()
        try:
            info = await self._describe(spec.name)
        except FailedPrecondition as error:
            if status_of(error) is not grpc.StatusCode.NOT_FOUND:
                raise
            info = await self._create(spec)
        _check_vectors(spec, info)
        await self._ensure_indexes(spec, info)
        if spec.alias is not None:
            await self._ensure_alias(spec.alias, spec.name)
        return Collection(spec.name, spec.dim, self._client, self._calls)

    async def resolve(self, alias: str) -> str | None:
        """The collection behind `alias`, or None."""
        answer = await self._calls(self._client.grpc_collections.ListAliases, pb.ListAliasesRequest())
        return next((entry.collection_name for entry in answer.aliases if entry.alias_name == alias), None)

    async def move_alias(self, alias: str, collection: str) -> None:
        """Let `alias` name `collection` from now on, in one step; idempotent."""
        actions = []
        if await self.resolve(alias) is not None:
            actions.append(pb.AliasOperations(delete_alias=pb.DeleteAlias(alias_name=alias)))
        create = pb.CreateAlias(alias_name=alias, collection_name=collection)
        actions.append(pb.AliasOperations(create_alias=create))
        await self._calls(self._client.grpc_collections.UpdateAliases, pb.ChangeAliases(actions=actions))

    async def drop(self, collection: str) -> None:
        """Delete a collection with all that is in it, and its aliases; nothing if there is none."""
        exists = pb.CollectionExistsRequest(collection_name=collection)
        answer = await self._calls(self._client.grpc_collections.CollectionExists, exists)
        if answer.result.exists:
            await self._calls(self._client.grpc_collections.Delete, pb.DeleteCollection(collection_name=collection))

    async def _health(self, _: None, *, timeout: float) -> pb.HealthCheckReply:  # noqa: ARG002 `Calls` bounds it
        version = await self._client.info()
        return pb.HealthCheckReply(title=version.title, version=version.version)

    async def _check_version(self) -> None:
        reply = await self._calls(self._health, None)
        found = re.match(r"(\d+)\.(\d+)", reply.version)
        if reply.title != _SERVER_TITLE or found is None:
            return
        if (int(found[1]), int(found[2])) < OLDEST_SERVER:
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise mismatch(f"the Qdrant server is version {reply.version}; {oldest} or newer is needed")

    async def _describe(self, name: str) -> pb.CollectionInfo:
        request = pb.GetCollectionInfoRequest(collection_name=name)
        answer: pb.GetCollectionInfoResponse = await self._calls(self._client.grpc_collections.Get, request)
        return answer.result

    async def _create(self, spec: CollectionSpec) -> pb.CollectionInfo:
        params = pb.VectorParams(
            size=spec.vector_size,
            distance=pb.Distance.Value(spec.distance.value),
            # No search runs in the store (simcore is the index), so it need not build a graph.
            hnsw_config=pb.HnswConfigDiff(m=0),
        )
        request = pb.CreateCollection(
            collection_name=spec.name,
            vectors_config=pb.VectorsConfig(params_map=pb.VectorParamsMap(map={VECTOR_NAME: params})),
            replication_factor=spec.replication_factor,
            write_consistency_factor=spec.write_consistency_factor,
        )
        try:
            await self._calls(self._client.grpc_collections.Create, request)
        except FailedPrecondition as refusal:
            # Another process may have been faster; servers tell this by different statuses.
            try:
                return await self._describe(spec.name)
            except FailedPrecondition:
                raise refusal from refusal.__cause__
        return await self._describe(spec.name)

    async def _ensure_indexes(self, spec: CollectionSpec, info: pb.CollectionInfo) -> None:
        for index in spec.indexes:
            if index.key not in info.payload_schema:
                await self._create_index(spec.name, index)
            elif info.payload_schema[index.key].data_type != wire.SCHEMA_TYPES[index.kind]:
                raise mismatch(f"the payload index {index.key} of the collection {spec.name} is not {index.kind.value}")

    async def _create_index(self, name: str, index: Index) -> None:
        field_type, params = wire.index_parameters(index)
        request = pb.CreateFieldIndexCollection(
            collection_name=name, wait=True, field_name=index.key, field_type=field_type, field_index_params=params
        )
        await self._calls(self._client.grpc_points.CreateFieldIndex, request)

    async def _ensure_alias(self, alias: str, collection: str) -> None:
        current = await self.resolve(alias)
        if current == collection:
            return
        if current is not None:
            raise mismatch(f"the alias {alias} belongs to the collection {current}, not to {collection}")
        await self.move_alias(alias, collection)


def _check_vectors(spec: CollectionSpec, info: pb.CollectionInfo) -> None:
    named = info.config.params.vectors_config.params_map.map
    if VECTOR_NAME not in named:
        raise mismatch(f"the collection {spec.name} has no vector named {VECTOR_NAME}")
    found = named[VECTOR_NAME]
    if found.size != spec.vector_size:
        raise mismatch(f"the collection {spec.name} has dimension {found.size}, not {spec.vector_size}")
    if found.distance != pb.Distance.Value(spec.distance.value):
        distance = pb.Distance.Name(found.distance)
        raise mismatch(f"the collection {spec.name} has distance {distance}, not {spec.distance.value}")


def _endpoint(url: str) -> tuple[str, int, bool]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the store's URL must be http://host:port or https://host:port")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("the store's URL must name scheme, host and port only")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host, parts.port or DEFAULT_PORT, parts.scheme == "https"
