"""Tenants with a key for each role, in a credentials file, and the suite that goes by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from services.chassis.auth.api_key import ApiKey
from services.chassis.auth.values import Role
from tests.canaries import planted_key
from tests.fakes.credentials import stored, write

PAST = datetime(2026, 2, 1, tzinfo=UTC)

SUITE_TENANT = "the-suite"
"""Whose the service key itself is: nobody's question belongs to it."""


@dataclass
class Tenancy:
    """Keys by tenant and role; `write` makes the files that a suite reads at its start."""

    tenants: tuple[str, ...]
    keys: dict[tuple[str, Role], ApiKey] = field(default_factory=dict)
    expired: dict[tuple[str, Role], ApiKey] = field(default_factory=dict)
    revoked: dict[tuple[str, Role], ApiKey] = field(default_factory=dict)
    service: ApiKey = field(default_factory=planted_key)

    def __post_init__(self) -> None:
        for kind in (self.keys, self.expired, self.revoked):
            kind.update({(tenant, role): planted_key() for tenant in self.tenants for role in Role})

    def key(self, tenant: str, role: Role) -> str:
        """The text of a valid key."""
        return self.keys[tenant, role].text

    def write(self, folder: Path) -> Mapping[str, str]:
        """Write the credentials and the service key into `folder`; returns the variables that name them."""
        folder.mkdir(parents=True, exist_ok=True)
        entries = [stored(self.service, Role.SERVICE, tenant=SUITE_TENANT)]
        entries += [stored(key, role, tenant=tenant) for (tenant, role), key in self.keys.items()]
        entries += [stored(key, role, tenant=tenant, expires_at=PAST) for (tenant, role), key in self.expired.items()]
        entries += [stored(key, role, tenant=tenant, revoked_at=PAST) for (tenant, role), key in self.revoked.items()]
        credentials, service = folder / "credentials.json", folder / "service.key"
        write(credentials, entries)
        service.write_text(self.service.text + "\n", encoding="ascii")
        for path in (credentials, service):
            path.chmod(0o600)
        return {"ANTIPHON_CREDENTIALS_FILE": str(credentials), "ANTIPHON_SERVICE_KEY_FILE": str(service)}
