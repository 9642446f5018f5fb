"""The one adapter through which every service reads and writes its state in Qdrant.

    filters     conditions on payload fields, as plain values
    values      what is stored: points, records, the specification of a collection
    wire        translation between those values and Qdrant's gRPC messages (the only module that knows their shape)
    calls       one rpc: under our own timeout, its errors mapped to domain errors
    store       the connection: health, collections, aliases
    collection  reads and writes in one collection
    location    where the store is, as settings and the embedded store's files say
    connection  a connection that follows the store when it moves

The other end is a Qdrant server, a cluster, or `services.edgestore`: the same rpcs, the same code.
"""

from services.storage.collection import Collection
from services.storage.connection import Connection
from services.storage.filters import AllOf, AnyOf, Between, Equals, Filter, HasId, Not, OneOf
from services.storage.location import Place, locate, read_api_key
from services.storage.store import Store
from services.storage.values import CollectionSpec, Distance, Index, IndexKind, Json, Point, Record

__all__ = [
    "AllOf",
    "AnyOf",
    "Between",
    "Collection",
    "CollectionSpec",
    "Connection",
    "Distance",
    "Equals",
    "Filter",
    "HasId",
    "Index",
    "IndexKind",
    "Json",
    "Not",
    "OneOf",
    "Place",
    "Point",
    "Record",
    "Store",
    "locate",
    "read_api_key",
]
