"""Answers prompts: from the cache, or from the cheapest model that is good enough, streamed while it is written.

    servicer, proto  what goes over the wire, and its validation
    request, ports   the plain values of a request, and the protocols of the cache and the router
    fills            equal requests in flight share one fill; who listens, who pays
    pipeline         the way of one fill: cache, router, model, cache
    caching          one fill's dealings with the cache: lookup, waiting, lease, storing
    calling          attempts at candidates until one answers
    models           what can be called and at what price; routing while the router is away
    streaming/       the shared transcript of an answer and how listeners read it
    idempotency/     equal keys get equal answers: claims in the store, and those who wait for them
    adapters/        the cache and the router over gRPC, and idempotency keys in the store
    upstreams/       the servers that have the models

A fill is a task of its own: a caller that leaves detaches, and the call of the model ends when the last one leaves.
"""
