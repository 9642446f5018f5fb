"""What a caller can do about an error."""

from __future__ import annotations

from collections.abc import Mapping

import grpc

_BY_REASON: Mapping[str, str] = {
    "UNSUPPORTED_FIELD": "leave the field out, or update the server",
    "MALFORMED_MESSAGE": "client and server have different contracts: update the older one",
    "UNKNOWN_MODEL": "RouterClient.list_models has the names; without a model the router chooses",
    "NO_MODEL_FITS": "loosen the constraints, or have the operator add a model to the catalogue",
    "CONTEXT_TOO_LONG": "shorten the conversation, or allow a model with a larger context",
    "LEASE_LOST": "look it up again: someone else may have stored the answer",
    "LEASE_UNKNOWN": "look it up again: the server may have been restarted",
    "ENTRY_NOT_FOUND": "it may have run out, or have been deleted",
    "EMBEDDER_MISMATCH": "the operator has to correct the settings of the embedder or its verifier",
    "EMBEDDER_UNAUTHENTICATED": "the operator has to set the credential of the embedding server",
    "EMBEDDER_DIMENSION": "the operator has to set the length of the vectors that the embedding server answers with",
    "STORE_MISMATCH": "the operator has to give the service a store of its own version",
    "UPSTREAM_UNAUTHENTICATED": "the operator has to set the credential of the model's server",
    "UPSTREAM_TRUNCATED": "what had arrived is incomplete; ask again",
    "CONTENT_FILTERED": "the same prompt will be filtered again; change it, or allow another model",
    "NOT_CACHED": "another cache mode lets a model be called",
    "INTERNAL": "it is a defect; tell the operator the reference",
    "MISSING_CREDENTIAL": "give the client an api_key; `antiphon key create` makes one",
    "INVALID_CREDENTIAL": "check which api_key is sent; `antiphon key list` shows those that are valid",
    "EXPIRED_CREDENTIAL": "have the operator make a new one with `antiphon key create`",
    "METHOD_NOT_ALLOWED": "use an api_key whose role may call this method",
    "TENANT_NOT_ALLOWED": "leave the tenant out: it is that of the api_key",
    "COMPLETION_NOT_FOUND": "it may be too long ago, or another process has answered it; the cache takes entry ids",
    "SOURCE_NOT_ALLOWED": "leave the source out, or use an api_key with the role operator",
    "READER_TOO_SLOW": "read the stream's events as they come, and work on them elsewhere",
    "STREAM_NOT_FOUND": "ask anew; a stream is kept by one process, for a short time, if it was asked to be resumable",
    "REEMBEDDING_PHASE": "`antiphon cache reembed --status` shows where the change of the embedder stands",
    "RESPONSE_FULL": "ask for the rest in another call",
    "IDEMPOTENCY_KEY_REUSED": "use a new idempotency_key for every new request",
}

_BY_CODE: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.INVALID_ARGUMENT: "correct the request",
    grpc.StatusCode.NOT_FOUND: "check the id",
    grpc.StatusCode.PERMISSION_DENIED: "use an api_key that may do this",
    grpc.StatusCode.UNAUTHENTICATED: "give the client a valid api_key",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "make fewer calls at once, or later",
    grpc.StatusCode.UNAVAILABLE: "it may pass: try again",
    grpc.StatusCode.DEADLINE_EXCEEDED: "give the call a longer timeout, or ask for less",
    grpc.StatusCode.ABORTED: "try again from the start",
    grpc.StatusCode.INTERNAL: "it is a defect; tell the operator",
}

_RAISED_BY_GRPC: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "check the target, that the server runs and is ready, and whether it speaks TLS",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "a message is larger than client or server allow: send or ask for less",
    grpc.StatusCode.UNIMPLEMENTED: "the server does not know this method: check the target, or update the server",
}


_LOST_WORDS = ("stream removed", "socket closed", "reset by peer", "cancelling all calls", "goaway")
"""In the messages of gRPC's core when a connection ends that a call was made on."""

_NEVER_MADE = "failing"
"""In those about connections that could not be made, which name the last error, too."""


def hint(code: grpc.StatusCode, reason: str, retry_after: float | None, message: str) -> str:
    """Return what to do next, in one line; empty if nothing can be said. `message` is gRPC's where it has no reason."""
    if retry_after is not None and code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}:
        return f"try again in {retry_after:g} s"
    if reason:
        return _BY_REASON.get(reason) or _BY_CODE.get(code, "")
    said = message.lower()
    if code is grpc.StatusCode.UNAVAILABLE and _NEVER_MADE not in said and any(word in said for word in _LOST_WORDS):
        return "the connection was lost, or the server stopped: try again"
    return _RAISED_BY_GRPC.get(code) or _BY_CODE.get(code, "")
