"""What a person can do about an error."""

from __future__ import annotations

import math

import grpc

from antiphon_client.errors import AntiphonError, UnavailableError

API_KEY = "ANTIPHON_API_KEY"
API_KEY_FILE = "ANTIPHON_API_KEY_FILE"
TLS_CA_FILE = "ANTIPHON_TLS_CA_FILE"
TLS_CERT_FILE = "ANTIPHON_TLS_CERT_FILE"
TLS_KEY_FILE = "ANTIPHON_TLS_KEY_FILE"

_BY_REASON = {
    "MISSING_CREDENTIAL": f"this server asks for an API key: put one into {API_KEY}, or the path of a file with it "
    f"into {API_KEY_FILE}; `antiphon key create` makes one",
    "INVALID_CREDENTIAL": f"the key in {API_KEY} or {API_KEY_FILE} is not one of this server's, or was revoked: "
    "`antiphon key list` shows which there are",
    "EXPIRED_CREDENTIAL": f"the key has expired: `antiphon key create` makes another, for {API_KEY}",
    "COMPLETION_NOT_FOUND": "only the process that gave an answer knows it, for a day; `antiphon feedback --entry` "
    "takes an entry of the cache, which `antiphon explain` finds",
    "ENTRY_NOT_FOUND": "it may have run out, or have been deleted: `antiphon entries` lists what there is",
    "SOURCE_NOT_ALLOWED": f"leave --source out, or use a key of the role `operator` in {API_KEY} or {API_KEY_FILE}",
    "TENANT_NOT_ALLOWED": "only the suite's own services may name a tenant: call with a key of that tenant",
    "UNKNOWN_MODEL": "leave --model out to let the router pick, or name a model of the catalogue (ANTIPHON_CATALOGUE)",
    "NO_MODEL_FITS": "the catalogue (ANTIPHON_CATALOGUE) has no model for this request",
    "UPSTREAM_UNAUTHENTICATED": "the model's server refuses the suite's credential: see the catalogue's `api_key_env`",
    "EMBEDDER_UNAUTHENTICATED": "set the key of the embedding server where the cache runs, in OPENAI_API_KEY or in the "
    "variable that ANTIPHON_EMBEDDING_OPENAI_API_KEY_ENV names, and start the cache again",
    "EMBEDDER_DIMENSION": "give the length that the embedding server answers with: `antiphon cache reembed --dim`, or "
    "ANTIPHON_EMBEDDING_DIM where the cache runs",
    "SHUTTING_DOWN": "the server is stopping; try again when it is back",
}

_TLS_WORDS = ("handshake failed", "ssl_error", "certificate")
_OTHER_PROTOCOL_WORDS = ("http1", "http/1", "frame", "preface", "socket closed")
"""In the messages of gRPC's core when a handshake fails, and when what answers wants something else than we send."""


def unreachable(error: AntiphonError) -> bool:
    """Whether no service has answered at all."""
    return isinstance(error, UnavailableError) and not error.reason


def next_step(error: AntiphonError, *, address: str, role: str) -> str:
    """Return what to do next, or an empty string. `role`: whose key the command needs."""
    if error.reason in _BY_REASON:
        return _BY_REASON[error.reason]
    if error.reason == "METHOD_NOT_ALLOWED":
        return (
            f"this needs a key of the role `{role}` in {API_KEY} or {API_KEY_FILE}: `antiphon key create --role {role}`"
        )
    if error.retry_after is not None:
        return f"try again in {_seconds(error.retry_after)}"
    if unreachable(error):
        return _reaching(error.message.lower(), address)
    if error.code is grpc.StatusCode.UNIMPLEMENTED:
        return f"what answers at {address} is another service or an older one: check the port"
    return ""


def _reaching(message: str, address: str) -> str:
    if any(word in message for word in _TLS_WORDS):
        return (
            f"the TLS handshake with {address} failed: {TLS_CA_FILE} must name who signed the server's certificate; "
            f"if the server asks for a client certificate, {TLS_CERT_FILE} and {TLS_KEY_FILE} name it; "
            "a server without TLS needs all three unset"
        )
    if any(word in message for word in _OTHER_PROTOCOL_WORDS):
        return (
            f"something is at {address} but it hangs up: check the port; if the server speaks TLS, {TLS_CA_FILE} must "
            f"name who signed its certificate, and if it asks for one of the client, {TLS_CERT_FILE} and {TLS_KEY_FILE}"
        )
    return "is `antiphon up` running, and are ANTIPHON_…_TARGET and ANTIPHON_…_LISTEN the same here as there?"


def _seconds(seconds: float) -> str:
    return "a second" if seconds <= 1 else f"{math.ceil(seconds):,} seconds"
