"""The embedded store: a small process that serves a part of Qdrant's gRPC API over the embedded engine.

It is not a Qdrant server and says so (`Qdrant.HealthCheck`). It exists so that a machine without a Qdrant server runs
the same adapter, the same rpcs and the same engine code for storage as a cluster does. Served, on loopback only and
with a token in the metadata `api-key`:

    Qdrant       HealthCheck (without the token, as Qdrant does)
    Collections  Create, Get, List, Delete, CollectionExists, UpdateAliases, ListAliases, ListCollectionAliases
    Points       Upsert, Get, Scroll, Count, Delete, SetPayload, CreateFieldIndex

Everything else, and every field of these that is not honoured, is UNIMPLEMENTED and named. Fields that hold by
themselves with one copy on one machine are taken: `ordering`, `read_consistency`, a replication factor of one;
`timeout` too, since gRPC's own deadline ends a call.

Durability: an acknowledged write is in the write-ahead log and survives SIGKILL of this process. Loss of power may lose
what was not yet flushed: at most the last second or 1,000 writes per collection.

    settings, __main__       start and stop
    lock, token, aliases     files in the state folder
    shard, shards            one collection; all of them, and their folders
    fields, translate        what is honoured of a request; messages to the engine's values and back
    conditions               which points a conditional write is about, before the engine logs it
    collections, points      the rpcs
    server                   gRPC: bytes in, token, errors
"""
