"""Where an upstream's key comes from; the only place that reads one. Errors name the source, never the content."""

from __future__ import annotations

from collections.abc import Mapping

from services.catalogue.values import UpstreamSpec
from services.chassis.errors import FailedPrecondition, Reason


def read_api_key(upstream: UpstreamSpec, environ: Mapping[str, str]) -> str | None:
    """Return the key, or `None` if the upstream needs none. Reads a small file: call it at start, not on the loop.

    A file wins over a variable. `FailedPrecondition(UPSTREAM_UNAUTHENTICATED)` if a source is named but has no key.
    """
    if upstream.api_key_file is not None:
        try:
            key = upstream.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise FailedPrecondition(
                f"the key file of upstream '{upstream.name}' cannot be read ({type(error).__name__})",
                reason=Reason.UPSTREAM_UNAUTHENTICATED,
            ) from None
        source = "key file"
    elif upstream.api_key_env:
        key = environ.get(upstream.api_key_env, "").strip()
        source = f"environment variable {upstream.api_key_env}"
    else:
        return None
    if not key:
        raise FailedPrecondition(
            f"the {source} of upstream '{upstream.name}' is empty or absent", reason=Reason.UPSTREAM_UNAUTHENTICATED
        )
    return key
