"""Which credentials a process goes by, from its settings; kept up to date while it runs."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path

from services.chassis.auth.access import Access
from services.chassis.auth.credentials import CredentialsError, parse
from services.chassis.auth.verifier import ApiKeys
from services.chassis.settings_model import SettingsError, SuiteSettings
from services.chassis.telemetry import Telemetry
from services.chassis.watched_file import POLL_SECONDS, WatchedFile

CREDENTIALS_VARIABLE = "ANTIPHON_CREDENTIALS_FILE"
CREDENTIALS_NAME = "credentials.json"


def credentials_path(settings: SuiteSettings) -> Path | None:
    """The credentials file: the configured one, else that in the state folder if there is one, else None."""
    if settings.credentials_file is not None:
        return settings.credentials_file
    own = settings.state_dir / CREDENTIALS_NAME
    # Whatever is there counts: what cannot be read must not open the doors.
    return own if own.exists() or own.is_symlink() else None


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches a listener at `host:port`."""
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ConfiguredAccess:
    """Gives an `Access` the keys of the credentials file, and gives it new ones when the file changes."""

    def __init__(self, access: Access, settings: SuiteSettings, telemetry: Telemetry) -> None:
        self._access = access
        self._settings = settings
        self._log = telemetry.log
        self._watching: asyncio.Task[None] | None = None
        self._keys = telemetry.credentials_keys
        self._reloads = telemetry.credentials_reloads

    async def start(self, *, listen: str, variable: str, warn: bool) -> None:
        """Read the file, if there is one, and watch it from now on.

        Without one the server is open to everyone on this machine: `SettingsError` naming `variable` if `listen` would
        let others in, and a log line, a warning if `warn`. `SettingsError` for a file that cannot be used.
        """
        path = await asyncio.to_thread(credentials_path, self._settings)
        if path is None:
            if not is_loopback(listen):
                raise SettingsError(
                    variable,
                    "without credentials a server listens on this machine only (127.0.0.1, [::1], localhost); "
                    f"make keys with `antiphon key create`, or name a file in {CREDENTIALS_VARIABLE}",
                )
            (self._log.warning if warn else self._log.info)(
                "no credentials: everyone on this machine may call everything", address=listen
            )
            return
        file = WatchedFile(path)
        try:
            keys = await asyncio.to_thread(_poll, file)
        except CredentialsError as error:
            where = "" if self._settings.credentials_file else f"{CREDENTIALS_NAME} in the state folder: "
            raise SettingsError(CREDENTIALS_VARIABLE, f"{where}{error}") from None
        if keys is not None:
            self._use(keys)
        self._watching = asyncio.create_task(self._watch(file), name="credentials")

    async def stop(self) -> None:
        """Watch no longer."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def _watch(self, file: WatchedFile) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                keys = await asyncio.to_thread(_poll, file)
            except CredentialsError as error:
                self._reloads.labels("credentials", "kept").inc()
                self._log.error("the credentials file is wrong; the old keys stay in use", problem=str(error))
                continue
            if keys is not None:
                self._use(keys)
                self._reloads.labels("credentials", "loaded").inc()
                self._log.info("credentials loaded", keys=len(keys))

    def _use(self, keys: ApiKeys) -> None:
        self._access.use(keys, keys=keys.ids)
        self._keys.set(len(keys))


def _poll(file: WatchedFile) -> ApiKeys | None:
    """The keys of a file that has changed; raises `CredentialsError` once for each state that cannot be used."""
    news = file.poll()
    if news is None:
        return None
    if isinstance(news, OSError):
        raise CredentialsError(f"the file cannot be read ({type(news).__name__})")
    return ApiKeys(parse(news))
