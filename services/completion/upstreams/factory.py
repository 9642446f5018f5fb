"""From the catalogue's entry to an upstream."""

from __future__ import annotations

from collections.abc import Mapping

from services.catalogue.credentials import read_api_key
from services.catalogue.values import UpstreamKind, UpstreamSpec
from services.completion.upstreams.offline import OfflineUpstream
from services.completion.upstreams.openai import OpenAIUpstream
from services.completion.upstreams.protocol import Upstream


def create(spec: UpstreamSpec, environ: Mapping[str, str], *, offline_pace: float = 0.0) -> Upstream:
    """Return the upstream that `spec` describes; connects to nothing yet.

    `offline_pace` is the stand-in's seconds per word. Reads a key file and the system's certificates: call it at start,
    not on the loop. `FailedPrecondition(UPSTREAM_UNAUTHENTICATED)` if the key is named but absent or unusable.
    """
    match spec.kind:
        case UpstreamKind.OFFLINE:
            return OfflineUpstream(spec.name, pace=offline_pace)
        case UpstreamKind.OPENAI:
            return OpenAIUpstream(
                spec.name,
                base_url=spec.base_url,
                api_key=read_api_key(spec, environ),
                headers=spec.headers,
                connect_timeout=spec.connect_timeout,
                legacy_max_tokens=spec.legacy_max_tokens,
                stream_usage=spec.stream_usage,
            )
