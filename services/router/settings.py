"""Settings of the router's process (`ANTIPHON_ROUTER_…`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from services.chassis.settings import SuiteSettings

SERVICE = "router"


class RouterSettings(SuiteSettings):
    """What the process can be told; the catalogue is a setting of the suite."""

    policy: Literal["static", "keywords"] = Field(
        default="static", description="Policy for requests that name none: a calibrated score, or lists of words."
    )
    remembered_decisions: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Decisions kept in memory, to join later reports with them; a few hundred bytes each.",
    )
    remembered_outcomes: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="Reports kept in memory to tell repeated ones; a few hundred bytes each.",
    )
    outcome_queue: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Reports that may wait for the store; then the oldest are dropped and counted.",
    )
    outcome_delay: float = Field(
        default=1.0, gt=0, le=60, description="Seconds that a report may wait to be written together with others."
    )
    outcome_retention: float = Field(
        default=30 * 86_400.0, gt=0, description="Seconds for which reports are kept in the store."
    )
    store_timeout: float = Field(default=5.0, gt=0, le=60, description="Seconds that one call to the store may take.")
