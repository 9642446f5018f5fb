"""The API key with which a process of the suite calls the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.chassis.auth.api_key import key_id_of
from services.chassis.auth.configured import credentials_path
from services.chassis.auth.credentials import CredentialsError
from services.chassis.settings_model import SettingsError, SuiteSettings
from services.chassis.telemetry import Telemetry
from services.chassis.watched_file import POLL_SECONDS, WatchedFile

SERVICE_KEY_VARIABLE = "ANTIPHON_SERVICE_KEY_FILE"
SERVICE_KEY_NAME = "service.key"


def service_key_path(settings: SuiteSettings) -> Path:
    """The configured file, else that in the state folder."""
    return settings.service_key_file or settings.state_dir / SERVICE_KEY_NAME


@asynccontextmanager
async def service_key(settings: SuiteSettings, telemetry: Telemetry) -> AsyncIterator[Callable[[], str] | None]:
    """What returns the key of the moment, for as long as the context lasts; None where no credentials are configured.

    The file is read again when it changes; one that has become wrong leaves the old key, is counted and logged.
    `SettingsError` if there has to be a key and there is none.
    """
    configured = await asyncio.to_thread(credentials_path, settings)
    if configured is None and settings.service_key_file is None:
        yield None
        return
    file = WatchedFile(service_key_path(settings))
    try:
        current = await asyncio.to_thread(_poll, file)
    except CredentialsError as error:
        raise SettingsError(
            SERVICE_KEY_VARIABLE,
            f"{error}; with credentials, completion needs a key with the role service: put one there that "
            "`antiphon key create --role service` made",
        ) from None

    async def watch() -> None:
        nonlocal current
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                new = await asyncio.to_thread(_poll, file)
            except CredentialsError as error:
                telemetry.credentials_reloads.labels("service_key", "kept").inc()
                telemetry.log.error(  # noqa: TRY400 -- the text says everything
                    "the service key's file is wrong; the old key stays in use", problem=str(error)
                )
                continue
            if new is not None:
                current = new
                telemetry.credentials_reloads.labels("service_key", "loaded").inc()
                telemetry.log.info("service key loaded", key=key_id_of(new))

    watching = asyncio.create_task(watch(), name="service key")
    try:
        yield lambda: current or ""
    finally:
        watching.cancel()
        await asyncio.wait({watching})


def _poll(file: WatchedFile) -> str | None:
    """The key in a file that has changed; raises `CredentialsError` once for each state that cannot be used."""
    news = file.poll()
    if news is None:
        return None
    if isinstance(news, OSError):
        raise CredentialsError(f"the file cannot be read ({type(news).__name__})")
    text = news.decode("ascii", errors="replace").strip()
    if key_id_of(text) is None:
        raise CredentialsError("the file does not hold an API key")
    return text
