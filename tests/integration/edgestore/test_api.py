"""The embedded store's API: Qdrant's own client works on it, and what it does not do it refuses by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message import Message
from qdrant_client import AsyncQdrantClient, models
from qdrant_client import grpc as pb

from services.edgestore.points import LARGEST_PAGE
from tests.integration.edgestore.store_process import StoreProcess

ID = str(uuid4())
WITH = pb.WithPayloadSelector(enable=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    process = StoreProcess(tmp_path_factory.mktemp("edgestore")).start()
    yield process
    process.close()


@pytest.fixture
async def client(served: StoreProcess) -> AsyncIterator[AsyncQdrantClient]:
    client = AsyncQdrantClient(
        host="127.0.0.1",
        grpc_port=int(served.url.rpartition(":")[2]),
        https=False,
        prefer_grpc=True,
        check_compatibility=False,
        headers={"api-key": served.token},
    )
    yield client
    await client.close()


@pytest.fixture
async def name(client: AsyncQdrantClient) -> AsyncIterator[str]:
    name = f"c{uuid4().hex}"
    params = {"query": models.VectorParams(size=2, distance=models.Distance.DOT)}
    await client.create_collection(name, vectors_config=params)
    yield name
    await client.delete_collection(name)


async def test_qdrants_own_client_works_on_it(client: AsyncQdrantClient, name: str) -> None:
    await client.create_payload_index(name, "at", models.PayloadSchemaType.INTEGER)
    point = models.PointStruct(id=ID, vector={"query": [0.5, 0.25]}, payload={"at": 4, "tags": ["x"]})
    assert (await client.upsert(name, [point])).status is models.UpdateStatus.COMPLETED
    [record] = await client.retrieve(name, [ID], with_vectors=True)
    assert (record.id, record.vector, record.payload) == (ID, {"query": [0.5, 0.25]}, {"at": 4, "tags": ["x"]})
    condition = models.Filter(must=[models.FieldCondition(key="at", range=models.Range(gte=4))])
    assert (await client.count(name, condition)).count == 1
    records, offset = await client.scroll(name, condition, order_by="at")
    assert ([record.id for record in records], offset) == ([ID], None)
    await client.set_payload(name, {"more": 1}, points=[ID])
    assert (await client.retrieve(name, [ID]))[0].payload == {"at": 4, "tags": ["x"], "more": 1}
    info = await client.get_collection(name)
    assert (info.points_count, info.config.hnsw_config.m, info.status) == (1, 0, models.CollectionStatus.GREEN)
    assert name in [collection.name for collection in (await client.get_collections()).collections]
    assert await client.collection_exists(name)
    await client.delete(name, points_selector=[ID])
    assert await client.retrieve(name, [ID]) == []


async def test_aliases_are_changed_all_or_none(client: AsyncQdrantClient, name: str) -> None:
    create = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=f"{name}_a"))
    missing = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="none", alias_name="b"))
    with pytest.raises(grpc.aio.AioRpcError):
        await client.update_collection_aliases([create, missing])
    assert (await client.get_collection_aliases(name)).aliases == []
    await client.update_collection_aliases([create])
    assert (await client.count(f"{name}_a")).count == 0
    rename = models.RenameAlias(old_alias_name=f"{name}_a", new_alias_name=f"{name}_b")
    await client.update_collection_aliases([models.RenameAliasOperation(rename_alias=rename)])
    assert [alias.alias_name for alias in (await client.get_collection_aliases(name)).aliases] == [f"{name}_b"]


async def test_it_says_that_it_is_no_qdrant_server(client: AsyncQdrantClient) -> None:
    assert "not a Qdrant server" in (await client.info()).title


def selector(**kind: object) -> pb.Filter:
    return pb.Filter(must=[pb.Condition(**kind)])


UNSUPPORTED: list[tuple[str, Message, str]] = [
    ("Upsert", pb.UpsertPoints(shard_key_selector=pb.ShardKeySelector()), "shard_key_selector"),
    ("Upsert", pb.UpsertPoints(update_filter=selector(is_empty=pb.IsEmptyCondition(key="a"))), "is_empty"),
    ("Upsert", pb.UpsertPoints(points=[pb.PointStruct(vectors=pb.Vectors(vector=pb.Vector()))]), "vectors.vector"),
    (
        "Upsert",
        pb.UpsertPoints(
            points=[
                pb.PointStruct(
                    vectors=pb.Vectors(vectors=pb.NamedVectors(vectors={"query": pb.Vector(sparse=pb.SparseVector())}))
                )
            ]
        ),
        "sparse",
    ),
    ("Get", pb.GetPoints(shard_key_selector=pb.ShardKeySelector()), "shard_key_selector"),
    ("Get", pb.GetPoints(with_payload=pb.WithPayloadSelector(exclude=pb.PayloadExcludeSelector())), "exclude"),
    ("Scroll", pb.ScrollPoints(filter=selector(nested=pb.NestedCondition())), "nested"),
    ("Scroll", pb.ScrollPoints(filter=pb.Filter(min_should=pb.MinShould())), "min_should"),
    (
        "Scroll",
        pb.ScrollPoints(filter=selector(field=pb.FieldCondition(key="a", match=pb.Match(text="b")))),
        "match.text",
    ),
    (
        "Scroll",
        pb.ScrollPoints(filter=selector(field=pb.FieldCondition(key="a", match=pb.Match(boolean=True)))),
        "match.boolean",
    ),
    (
        "Scroll",
        pb.ScrollPoints(filter=selector(field=pb.FieldCondition(key="a", geo_radius=pb.GeoRadius()))),
        "geo_radius",
    ),
    (
        "Scroll",
        pb.ScrollPoints(with_payload=WITH, order_by=pb.OrderBy(start_from=pb.StartFrom(datetime="x"))),
        "datetime",
    ),
    ("Count", pb.CountPoints(shard_key_selector=pb.ShardKeySelector()), "shard_key_selector"),
    ("Delete", pb.DeletePoints(shard_key_selector=pb.ShardKeySelector()), "shard_key_selector"),
    ("SetPayload", pb.SetPayloadPoints(key="a.b"), "key"),
    ("CreateFieldIndex", pb.CreateFieldIndexCollection(field_name="a", field_type=pb.FieldType.FieldTypeGeo), "Geo"),
    (
        "CreateFieldIndex",
        pb.CreateFieldIndexCollection(
            field_name="a", field_index_params=pb.PayloadIndexParams(bool_index_params=pb.BoolIndexParams())
        ),
        "bool_index_params",
    ),
    ("Upsert", pb.UpsertPoints.FromString(b"\xfa\x3f\x01x"), "field number 1023"),
]


@pytest.mark.parametrize(("rpc", "request_", "named"), UNSUPPORTED, ids=[f"{r}-{n}" for r, _, n in UNSUPPORTED])
async def test_an_unsupported_field_of_points_is_named(
    client: AsyncQdrantClient, name: str, rpc: str, request_: Message, named: str
) -> None:
    sent = type(request_)()
    sent.CopyFrom(request_)
    sent.collection_name = name
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(client.grpc_points, rpc)(sent)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert named in refused.value.details()


PARAMS = pb.VectorParams(size=2, distance=pb.Distance.Dot)


def named_vectors(params: pb.VectorParams) -> pb.VectorsConfig:
    return pb.VectorsConfig(params_map=pb.VectorParamsMap(map={"query": params}))


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (pb.CreateCollection(vectors_config=pb.VectorsConfig(params=PARAMS)), "vectors_config.params"),
        (pb.CreateCollection(), "without a named vector"),
        (pb.CreateCollection(vectors_config=named_vectors(PARAMS), replication_factor=2), "replication_factor"),
        (pb.CreateCollection(vectors_config=named_vectors(PARAMS), shard_number=3), "shard_number"),
        (
            pb.CreateCollection(vectors_config=named_vectors(PARAMS), hnsw_config=pb.HnswConfigDiff(m=16)),
            "hnsw_config.m",
        ),
        (
            pb.CreateCollection(vectors_config=named_vectors(pb.VectorParams(size=2, distance=4, on_disk=True))),
            "on_disk",
        ),
        (pb.CreateCollection(vectors_config=named_vectors(PARAMS), quantization_config={}), "quantization_config"),
        (pb.CreateCollection(vectors_config=named_vectors(PARAMS), wal_config={}), "wal_config"),
    ],
)
async def test_an_unsupported_field_of_create_is_named_and_nothing_is_made(
    client: AsyncQdrantClient, request_: pb.CreateCollection, named: str
) -> None:
    request_.collection_name = f"c{uuid4().hex}"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.grpc_collections.Create(request_)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert named in refused.value.details()
    assert not await client.collection_exists(request_.collection_name)


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("Search", pb.SearchPoints()),
        ("Query", pb.QueryPoints()),
        ("OverwritePayload", pb.SetPayloadPoints()),
        ("UpdateBatch", pb.UpdateBatchPoints()),
        ("DeleteFieldIndex", pb.DeleteFieldIndexCollection()),
    ],
)
async def test_other_rpcs_are_unimplemented(client: AsyncQdrantClient, name: str, rpc: str, request_: Message) -> None:
    request_.collection_name = name
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(client.grpc_points, rpc)(request_)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("rpc", "request_", "code"),
    [
        ("Scroll", pb.ScrollPoints(with_payload=WITH, limit=LARGEST_PAGE + 1), "INVALID_ARGUMENT"),
        ("Scroll", pb.ScrollPoints(with_payload=WITH, limit=0), "INVALID_ARGUMENT"),
        ("Scroll", pb.ScrollPoints(), "INVALID_ARGUMENT"),
        ("Scroll", pb.ScrollPoints(with_payload=WITH, order_by=pb.OrderBy(key="unindexed")), "INVALID_ARGUMENT"),
        ("Get", pb.GetPoints(with_payload=WITH, ids=[pb.PointId(uuid="zzz")]), "INVALID_ARGUMENT"),
        ("Get", pb.GetPoints(with_payload=WITH, ids=[pb.PointId()]), "INVALID_ARGUMENT"),
        ("Upsert", pb.UpsertPoints(), "INVALID_ARGUMENT"),
        ("Delete", pb.DeletePoints(), "INVALID_ARGUMENT"),
        (
            "SetPayload",
            pb.SetPayloadPoints(
                payload={"a": pb.Value(integer_value=1)},
                points_selector=pb.PointsSelector(points=pb.PointsIdsList(ids=[pb.PointId(uuid=ID)])),
            ),
            "NOT_FOUND",
        ),
    ],
)
async def test_a_wrong_request_is_refused(
    client: AsyncQdrantClient, name: str, rpc: str, request_: Message, code: str
) -> None:
    request_.collection_name = name
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await getattr(client.grpc_points, rpc)(request_)
    assert refused.value.code().name == code


async def test_a_vector_of_the_wrong_size_is_refused(client: AsyncQdrantClient, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.upsert(name, [models.PointStruct(id=ID, vector={"query": [1.0]}, payload={})])
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError):
        await client.upsert(name, [models.PointStruct(id=ID, vector={"other": [1.0, 2.0]}, payload={})])
    assert (await client.count(name)).count == 0


async def test_a_missing_collection_is_not_found(client: AsyncQdrantClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.count("missing")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("name_", ["", ".hidden", "../up", "a/b", "x" * 201, "nul\0"])
async def test_a_name_that_is_no_folder_name_is_refused(client: AsyncQdrantClient, name_: str) -> None:
    request = pb.CreateCollection(collection_name=name_, vectors_config=named_vectors(PARAMS))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.grpc_collections.Create(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("metadata", [[], [("api-key", "wrong")], [("authorization", "Bearer x")]])
async def test_without_the_token_only_health_is_answered(served: StoreProcess, metadata: list[tuple[str, str]]) -> None:
    async with grpc.aio.insecure_channel(served.url.removeprefix("http://")) as channel:
        health = await pb.QdrantStub(channel).HealthCheck(pb.HealthCheckRequest(), metadata=metadata)
        assert "edgestore" in health.title
        for call, request in (
            (pb.CollectionsStub(channel).List, pb.ListCollectionsRequest()),
            (pb.PointsStub(channel).Count, pb.CountPoints(collection_name="c")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(request, metadata=metadata)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_malformed_bytes_are_the_callers_fault(served: StoreProcess) -> None:
    async with grpc.aio.insecure_channel(served.url.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/qdrant.Points/Count")(b"\xff\xff", metadata=[("api-key", served.token)])
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
