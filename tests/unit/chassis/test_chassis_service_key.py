"""The key with which a process calls the others: read at the start, followed when it changes."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from services.chassis.auth.api_key import new_key
from services.chassis.auth.service_key import service_key
from services.chassis.settings import SettingsError, SuiteSettings
from services.chassis.telemetry import Telemetry
from tests.fakes.credentials import replace, write

GUARD = 10.0
FIRST, SECOND = new_key(), new_key()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD):
        while not condition():  # noqa: ASYNC110 -- the file is looked at a few times a second, and nobody is told
            await asyncio.sleep(0.01)


@pytest.mark.fault(66, 70)
async def test_a_new_key_is_used_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    write(tmp_path / "credentials.json", [])
    path = tmp_path / "service.key"
    path.write_text(FIRST.text + "\n")
    log = io.BytesIO()
    telemetry = Telemetry("test", stream=log)

    def reloads(result: str) -> float:
        labels = {"file": "service_key", "result": result}
        return telemetry.registry.get_sample_value("antiphon_credentials_reloads_total", labels) or 0.0

    async with service_key(SuiteSettings(state_dir=tmp_path), telemetry) as key:
        assert key is not None
        assert key() == FIRST.text
        replace(path, b"not a key")
        await until(lambda: reloads("kept") == 1)
        assert key() == FIRST.text
        replace(path, SECOND.text.encode())
        await until(lambda: reloads("loaded") == 1)
        assert key() == SECOND.text
    telemetry.close()
    assert b"the old key stays in use" in log.getvalue()
    assert SECOND.text[16:].encode() not in log.getvalue()


async def test_without_credentials_there_is_no_key_unless_one_is_configured(tmp_path: Path) -> None:
    (tmp_path / "service.key").write_text(FIRST.text)
    telemetry = Telemetry("test", stream=io.BytesIO())
    async with service_key(SuiteSettings(state_dir=tmp_path), telemetry) as key:
        assert key is None
    configured = SuiteSettings(state_dir=tmp_path, service_key_file=tmp_path / "service.key")
    async with service_key(configured, telemetry) as key:
        assert key is not None
        assert key() == FIRST.text
    with pytest.raises(SettingsError, match="ANTIPHON_SERVICE_KEY_FILE"):
        async with service_key(SuiteSettings(state_dir=tmp_path, service_key_file=tmp_path / "gone"), telemetry):
            pass
    telemetry.close()
