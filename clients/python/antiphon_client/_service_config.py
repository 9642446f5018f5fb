"""How channels spread, repeat and bound calls: gRPC's service config, which stands beside the contracts.

`antiphon/service_config.json` is the same for every language. A channel takes its `timeout`s as upper bounds; here they
are the defaults of the clients' methods instead, so that a caller can wait longer, and the channel gets the rest:
round_robin over all addresses of a target that report `readiness` (gRFC A17), and retries with a budget (gRFC A6).
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any


def packaged() -> dict[str, Any]:
    """Return the service config as it is published."""
    text = importlib.resources.files("antiphon").joinpath("service_config.json").read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    return config


@functools.cache
def service_config() -> str:
    """Return the JSON for the channel option `grpc.service_config`."""
    config = packaged()
    for method in config["methodConfig"]:
        method.pop("timeout", None)
    return json.dumps(config)


def default_timeouts() -> dict[str, float]:
    """Return the seconds that a call of each method, `package.Service/Method`, may take by default."""
    return {
        f"{name['service']}/{name['method']}": float(method["timeout"].removesuffix("s"))
        for method in packaged()["methodConfig"]
        for name in method["name"]
    }
