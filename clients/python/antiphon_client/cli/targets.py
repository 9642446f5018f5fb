"""Where the services are: their settings, read as the suite reads them."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from antiphon_client.channel import wrong_target
from antiphon_client.cli.hints import API_KEY, API_KEY_FILE, TLS_CA_FILE, TLS_CERT_FILE, TLS_KEY_FILE

PREFIX = "ANTIPHON_"
CONFIG_FILE = "ANTIPHON_CONFIG"
STATE_DIR = "ANTIPHON_STATE_DIR"
DEFAULT_STATE_DIR = ".antiphon"

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 -- it is compared, not bound
"""What listens on every address of this machine is called on its own."""

_LAST_PORT = 65535


class SettingError(Exception):
    """A setting is wrong; `name` is its variable. The message never quotes the value."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name}: {what}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Service:
    """A service that commands call: its name in settings and run files, and its default port."""

    name: str
    port: int

    @property
    def target_variable(self) -> str:
        """The setting that says where it is."""
        return f"ANTIPHON_{self.name.upper()}_TARGET"

    @property
    def listen_variable(self) -> str:
        """The setting that says where it listens."""
        return f"ANTIPHON_{self.name.upper()}_LISTEN"


COMPLETION = Service("completion", 7100)
CACHE = Service("cache", 7101)


READ = (
    CONFIG_FILE,
    STATE_DIR,
    *(variable for service in (COMPLETION, CACHE) for variable in (service.target_variable, service.listen_variable)),
    API_KEY,
    API_KEY_FILE,
    TLS_CA_FILE,
    TLS_CERT_FILE,
    TLS_KEY_FILE,
)
"""Variables that commands read."""

ALIKE = 0.94
"""Of a name to one of these (`difflib`): a letter or two that are wrong, missing or in the wrong place. No other
setting of the suite comes near."""


class Settings:
    """Settings of the suite: from the environment, else from the table `[suite]` of the file in `ANTIPHON_CONFIG`.

    Raises `SettingError` for a variable that is hardly anything but a mistyped one.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        for name in environ:
            if name.startswith(PREFIX) and name not in READ and (meant := get_close_matches(name, READ, 1, ALIKE)):
                raise SettingError(name, f"is no setting; {meant[0]} is")
        self._environ = environ
        self._suite = _suite_table(environ)

    def get(self, name: str) -> str:
        """Return a setting's value, or an empty string."""
        return self._environ.get(name) or str(self._suite.get(name.removeprefix("ANTIPHON_").lower(), ""))

    @property
    def state_dir(self) -> Path:
        """The suite's folder on this machine."""
        return Path(self.get(STATE_DIR) or DEFAULT_STATE_DIR).expanduser()

    def target(self, service: Service) -> str:
        """Return where a service is: its target, else where it listens, else its default port on this machine.

        A service that listens on a free port (`:0`) has written into the state folder which one it took. Raises
        `SettingError` if it has not, and for what is no target, or no address to listen on.
        """
        if value := self.get(service.target_variable):
            if wrong := wrong_target(value):
                raise SettingError(service.target_variable, wrong)
            return value
        listen = self.get(service.listen_variable) or f"127.0.0.1:{service.port}"
        host, _, port = listen.rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= _LAST_PORT):
            raise SettingError(
                service.listen_variable,
                f"must be host:port with a port of at most {_LAST_PORT}, such as 127.0.0.1:{service.port}",
            )
        if port != "0":
            return f"{_LOOPBACK.get(host, host)}:{port}"
        path = self.state_dir / "run" / f"{service.name}.json"
        try:
            address = json.loads(path.read_text(encoding="utf-8"))["address"]
        except (OSError, ValueError, KeyError, TypeError):
            address = None
        if not isinstance(address, str):
            raise SettingError(
                service.listen_variable,
                f"it takes a free port, and {path} does not say which; is `antiphon up` running on this state folder "
                f"({STATE_DIR})?",
            )
        return address


def _suite_table(environ: Mapping[str, str]) -> Mapping[str, Any]:
    if not (location := environ.get(CONFIG_FILE)):
        return {}
    try:
        table = tomllib.loads(Path(location).expanduser().read_text(encoding="utf-8")).get("suite", {})
    except OSError as error:
        raise SettingError(CONFIG_FILE, f"the file cannot be read ({type(error).__name__})") from None
    except ValueError:
        raise SettingError(CONFIG_FILE, "the file cannot be read as TOML") from None
    return table if isinstance(table, dict) else {}
