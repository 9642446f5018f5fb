"""The rpcs of `qdrant.Collections`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.message import Message
from qdrant_client import grpc as pb

from services.edgestore import translate
from services.edgestore.fields import only
from services.edgestore.refused import invalid, not_found, unimplemented
from services.edgestore.shard import GONE_SHARE, LEAST_POINTS, Schema, VectorParams
from services.edgestore.shards import Shards

_LARGEST_VECTOR = 65_536
"""Qdrant's own limit."""

_ENGINE_CONFIG = pb.CollectionConfig(
    # No graph is ever built: the figures state what is.
    hnsw_config=pb.HnswConfigDiff(m=0, ef_construct=100, full_scan_threshold=10_000, max_indexing_threads=0),
    optimizer_config=pb.OptimizersConfigDiff(
        deleted_threshold=GONE_SHARE,
        vacuum_min_vector_number=LEAST_POINTS,
        default_segment_number=1,
        flush_interval_sec=1,
    ),
    wal_config=pb.WalConfigDiff(wal_capacity_mb=32, wal_segments_ahead=0, wal_retain_closed=1),
)


class CollectionsRpcs:
    """Collections and aliases over `Shards`; each method is one rpc and raises RefusedError."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def methods(self) -> Mapping[str, tuple[type[Message], Callable[..., Message]]]:
        """By rpc name: the request's type and the method."""
        return {
            "Create": (pb.CreateCollection, self.create),
            "Get": (pb.GetCollectionInfoRequest, self.get),
            "List": (pb.ListCollectionsRequest, self.list_all),
            "Delete": (pb.DeleteCollection, self.delete),
            "CollectionExists": (pb.CollectionExistsRequest, self.exists),
            "UpdateAliases": (pb.ChangeAliases, self.update_aliases),
            "ListAliases": (pb.ListAliasesRequest, self.list_aliases),
            "ListCollectionAliases": (pb.ListCollectionAliasesRequest, self.list_collection_aliases),
        }

    def create(self, request: pb.CreateCollection) -> pb.CollectionOperationResponse:
        only(
            request,
            *("collection_name", "vectors_config", "hnsw_config", "timeout"),
            *("shard_number", "replication_factor", "write_consistency_factor"),
        )
        for name in ("shard_number", "replication_factor", "write_consistency_factor"):
            if request.HasField(name) and getattr(request, name) != 1:
                raise unimplemented(f"{name} can only be 1")
        _no_graph(request.hnsw_config, "hnsw_config")
        only(request.vectors_config, "params_map", inside="vectors_config")
        named = request.vectors_config.params_map.map
        if not named:
            raise unimplemented("a collection without a named vector (vectors_config.params_map) is not supported")
        schema = Schema({name: _vector_params(name, params) for name, params in named.items()})
        self._shards.create(request.collection_name, schema)
        return pb.CollectionOperationResponse(result=True)

    def get(self, request: pb.GetCollectionInfoRequest) -> pb.GetCollectionInfoResponse:
        only(request, "collection_name")
        shard = self._shards.get(request.collection_name)
        info = shard.edge.info()
        named = {
            name: pb.VectorParams(size=params.size, distance=pb.Distance.Value(params.distance))
            for name, params in shard.schema.vectors.items()
        }
        result = pb.CollectionInfo(
            status=pb.CollectionStatus.Green,
            optimizer_status=pb.OptimizerStatus(ok=True),
            segments_count=info.segments_count,
            points_count=info.points_count,
            indexed_vectors_count=info.indexed_vectors_count,
            config=_ENGINE_CONFIG,
            payload_schema={key: translate.schema_info(index) for key, index in info.payload_schema.items()},
        )
        result.config.params.CopyFrom(
            pb.CollectionParams(
                shard_number=1,
                replication_factor=1,
                write_consistency_factor=1,
                vectors_config=pb.VectorsConfig(params_map=pb.VectorParamsMap(map=named)),
            )
        )
        return pb.GetCollectionInfoResponse(result=result)

    def list_all(self, request: pb.ListCollectionsRequest) -> pb.ListCollectionsResponse:
        only(request)
        return pb.ListCollectionsResponse(
            collections=[pb.CollectionDescription(name=name) for name in self._shards.names()]
        )

    def delete(self, request: pb.DeleteCollection) -> pb.CollectionOperationResponse:
        only(request, "collection_name", "timeout")
        return pb.CollectionOperationResponse(result=self._shards.delete(request.collection_name))

    def exists(self, request: pb.CollectionExistsRequest) -> pb.CollectionExistsResponse:
        only(request, "collection_name")
        return pb.CollectionExistsResponse(result=pb.CollectionExists(exists=self._shards.has(request.collection_name)))

    def update_aliases(self, request: pb.ChangeAliases) -> pb.CollectionOperationResponse:
        only(request, "actions", "timeout")
        names = dict(self._shards.aliases.current())
        for action in request.actions:
            only(action, "create_alias", "rename_alias", "delete_alias", inside="actions")
            self._apply(action, names)
        # All actions or, if one was refused, none.
        self._shards.aliases.replace(names)
        return pb.CollectionOperationResponse(result=True)

    def list_aliases(self, request: pb.ListAliasesRequest) -> pb.ListAliasesResponse:
        only(request)
        return self._aliases(None)

    def list_collection_aliases(self, request: pb.ListCollectionAliasesRequest) -> pb.ListAliasesResponse:
        only(request, "collection_name")
        return self._aliases(request.collection_name)

    def _aliases(self, collection: str | None) -> pb.ListAliasesResponse:
        return pb.ListAliasesResponse(
            aliases=[
                pb.AliasDescription(alias_name=alias, collection_name=target)
                for alias, target in sorted(self._shards.aliases.current().items())
                if collection in {None, target}
            ]
        )

    def _apply(self, action: pb.AliasOperations, names: dict[str, str]) -> None:
        match action.WhichOneof("action"):
            case "create_alias":
                alias, target = action.create_alias.alias_name, action.create_alias.collection_name
                if target not in self._shards.names():
                    raise not_found(f"Collection `{target}` doesn't exist!")
                self._check_free(alias)
                names[alias] = target
            case "rename_alias":
                old, new = action.rename_alias.old_alias_name, action.rename_alias.new_alias_name
                if old not in names:
                    raise not_found(f"Alias {old} does not exists!")
                self._check_free(new)
                names[new] = names.pop(old)
            case "delete_alias":
                names.pop(action.delete_alias.alias_name, None)
            case _:
                raise invalid("an alias action is empty")

    def _check_free(self, alias: str) -> None:
        if not alias:
            raise invalid("an alias name is empty")
        if alias in self._shards.names():
            raise invalid(f"Collection `{alias}` already exists!")


def _vector_params(name: str, params: pb.VectorParams) -> VectorParams:
    inside = f"vectors_config.{name}"
    only(params, "size", "distance", "hnsw_config", inside=inside)
    _no_graph(params.hnsw_config, f"{inside}.hnsw_config")
    if not 1 <= params.size <= _LARGEST_VECTOR:
        raise invalid(f"{inside}.size must be within 1 and {_LARGEST_VECTOR}")
    if params.distance not in pb.Distance.values() or params.distance == pb.Distance.UnknownDistance:
        raise invalid(f"{inside}.distance is unknown")
    return VectorParams(params.size, pb.Distance.Name(params.distance))


def _no_graph(config: pb.HnswConfigDiff, inside: str) -> None:
    only(config, "m", inside=inside)
    if config.HasField("m") and config.m != 0:
        raise unimplemented(f"{inside}.m can only be 0: no graph is built")
