"""Settings of the embedded store's process (`ANTIPHON_EDGESTORE_…`)."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from services.chassis.settings import ListenAddress, SuiteSettings

SERVICE = "edgestore"


def _loopback(value: str) -> str:
    host = value.rpartition(":")[0].strip("[]")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError("must be a loopback address: the embedded store is for this machine only")
    return value


class EdgestoreSettings(SuiteSettings):
    """What the process can be told."""

    listen: Annotated[ListenAddress, AfterValidator(_loopback)] = Field(
        default="127.0.0.1:0", description="Loopback address where the embedded store listens; port 0 takes a free one."
    )
