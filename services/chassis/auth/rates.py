"""How often, and for how many tokens, each key may call this process in a minute."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from services.chassis.auth.bucket import Bucket
from services.chassis.auth.values import Identity, Role
from services.chassis.errors import Exhausted, Reason


@dataclass(slots=True)
class _Buckets:
    requests: Bucket | None = None
    tokens: Bucket | None = None


class Rates:
    """The buckets of all keys that have been used. For use on one event loop."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._by_key: dict[str, _Buckets] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def admit(self, identity: Identity, *, metered: bool) -> None:
        """Count one request of the key.

        Raises `Exhausted` (RATE_LIMITED) with the time until there is room: for another request or, with `metered`,
        for more tokens. A request refused for its tokens does not count. The role `service` is never refused.
        """
        if identity.requests_per_minute is None and identity.tokens_per_minute is None:
            return
        if identity.caller.role is Role.SERVICE:
            return
        key_id = identity.caller.key_id
        buckets = self._by_key.get(key_id)
        if buckets is None:
            buckets = self._by_key[key_id] = _Buckets()
        buckets.requests = self._sized(buckets.requests, identity.requests_per_minute)
        buckets.tokens = self._sized(buckets.tokens, identity.tokens_per_minute)
        if metered and buckets.tokens is not None and (seconds := buckets.tokens.shortage()) > 0:
            raise _refused("tokens", seconds)
        if buckets.requests is not None and (seconds := buckets.requests.take()) > 0:
            raise _refused("requests", seconds)

    def charge(self, key_id: str, tokens: int) -> None:
        """Count tokens that were bought with the key; more than it may buy is taken from the minutes to come."""
        buckets = self._by_key.get(key_id)
        if buckets is not None and buckets.tokens is not None:
            buckets.tokens.charge(tokens)

    def keep(self, ids: Collection[str]) -> None:
        """Forget the buckets of all other keys."""
        for key_id in self._by_key.keys() - set(ids):
            del self._by_key[key_id]

    def _sized(self, bucket: Bucket | None, per_minute: int | None) -> Bucket | None:
        if per_minute is None:
            return None
        if bucket is None:
            return Bucket(per_minute, self._monotonic)
        if bucket.per_minute != per_minute:
            bucket.resize(per_minute)
        return bucket


def _refused(what: str, seconds: float) -> Exhausted:
    # RetryInfo is as fine as milliseconds; one more on top, so that who comes then is not refused by a rounding.
    return Exhausted(
        f"the key has used up its {what} per minute",
        reason=Reason.RATE_LIMITED,
        retry_after=(math.ceil(seconds * 1000) + 1) / 1000,
    )
