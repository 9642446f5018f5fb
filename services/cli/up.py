"""`antiphon up`: the whole suite on this machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from antiphon_client.cli.connect import Connection, api_key, tls
from antiphon_client.cli.targets import SettingError, Settings
from services.chassis.auth.configured import credentials_path
from services.chassis.settings import EX_CONFIG, SettingsError, SuiteSettings, load
from services.cli.children import ConfigurationError
from services.cli.demo import show
from services.cli.model import ensure_default_model
from services.cli.supervisor import Suite, lock_path

EX_UNCLEAN = 1


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock; `SettingsError` if another `up` has it."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = lock_path(state_dir).open("a")
    except OSError as error:
        raise SettingsError("ANTIPHON_STATE_DIR", f"cannot be written to ({type(error).__name__})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError("ANTIPHON_STATE_DIR", "another `antiphon up` runs on this state folder") from None
        yield


def _report(name: str, state: str) -> None:
    click.echo(f"{name:<10} {state}")


async def _run(
    settings: SuiteSettings, environ: Mapping[str, str], *, demo: Callable[[str], Connection] | None, leave: bool
) -> int:
    stop = asyncio.Event()
    suite = Suite(settings, environ, _report)
    failed = False

    def on_signal() -> None:
        if stop.is_set():
            suite.kill()
            return
        click.echo("stopping; once more kills")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)

    async def serving(addresses: Mapping[str, str]) -> None:
        nonlocal failed
        click.echo("SERVING " + " ".join(f"{name}={address}" for name, address in addresses.items()))
        if demo is not None:
            failed = not await show(demo(addresses["completion"]))
        if leave:
            stop.set()

    clean = await suite.run(serving, stop)
    return 0 if clean and not failed else EX_UNCLEAN


def _asking(environ: Mapping[str, str], *, is_open: bool) -> Callable[[str], Connection]:
    """How the demo calls a service at an address: with what the environment gives to every command."""
    caller = Settings(environ)
    key, certificates = api_key(caller), tls(caller)
    if key is None and not is_open:
        raise SettingsError(
            "ANTIPHON_API_KEY", "is needed for the demo: `antiphon key create --tenant default --role client` makes one"
        )
    return lambda address: Connection(address, key, certificates)


@click.command()
@click.option("--demo", is_flag=True, help="Ask four questions once everything serves.")
@click.option("--exit", "leave", is_flag=True, help="Drain and exit once everything serves (after the demo).")
def up(*, demo: bool, leave: bool) -> None:
    """Run the whole suite: store, cache, router, completion. Ctrl-C drains.

    \b
    Exit codes: 0 stopped cleanly; 1 a process had to be killed or the demo failed;
    78 a setting is wrong, or another `up` has the state folder.
    """
    environ = dict(os.environ)
    try:
        settings = load(SuiteSettings, service="up", environ=environ)
        with _only_one(settings.state_dir):
            ensure_default_model(environ)
            is_open = credentials_path(settings) is None
            asking = _asking(environ, is_open=is_open) if demo else None
            if is_open:
                click.echo(
                    "no credentials: everyone on this machine may call everything; `antiphon key create` makes keys"
                )
            code = asyncio.run(_run(settings, environ, demo=asking, leave=leave))
    except (SettingsError, SettingError) as error:
        click.echo(f"antiphon up: {error}", err=True)
        code = EX_CONFIG
    except ConfigurationError:
        code = EX_CONFIG
    sys.exit(code)
