"""How a command runs: it calls a service, and what fails becomes lines on stderr and an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import click

from antiphon_client.cli import exits
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.hints import next_step, unreachable
from antiphon_client.cli.printable import printable
from antiphon_client.cli.targets import Service, SettingError, Settings
from antiphon_client.errors import AntiphonError

CLIENT = "client"
OPERATOR = "operator"
"""Roles of API keys: what a command needs, for its hints."""


class BrokenOffError(AntiphonError):
    """A stream ended before the answer did; what was printed is incomplete."""


def _nothing() -> str:
    return ""


def run(
    body: Callable[[Connection], Coroutine[Any, Any, None]],
    service: Service,
    *,
    role: str = CLIENT,
    done: Callable[[], str] = _nothing,
) -> None:
    """Run a command's body with a connection to its service; errors end the program. Ctrl-C is the caller's.

    `done`: what the command has done, if it broke off and may be repeated; empty if nothing.
    """
    with reported_settings():
        connection = Connection.to(service, Settings())
        with reported_errors(connection.address, role=role, done=done):
            asyncio.run(body(connection))


@contextmanager
def reported_settings() -> Iterator[None]:
    """Turn a wrong setting into a line on stderr and an exit code."""
    try:
        yield
    except SettingError as error:
        complain(str(error))
        sys.exit(exits.CONFIG)


@contextmanager
def reported_errors(address: str, *, role: str = CLIENT, done: Callable[[], str] = _nothing) -> Iterator[None]:
    """Turn a failed call into lines on stderr, with what to do next, and an exit code; `done` as for `run`."""
    try:
        yield
    except AntiphonError as error:
        report(error, address, role=role, done=done())
        sys.exit(exits.UNAVAILABLE if unreachable(error) else exits.FAILED)
    except KeyboardInterrupt:
        _tell_done(done())
        raise


def report(error: AntiphonError, address: str, *, role: str = CLIENT, done: str = "") -> None:
    """Print what a call raised and what to do next; `done` as for `run`."""
    if done and unreachable(error):
        complain(f"the connection to {address} was lost")
        _tell_done(done)
        return
    if isinstance(error, BrokenOffError):
        complain(f"the answer broke off and is incomplete: {error.message} ({error.reason or error.code.name})")
    elif unreachable(error):
        complain(f"no service answers at {address}")
    else:
        fields = error.fields.items()
        detail = "".join(f"\n  {field}: {what}" for field, what in fields if what != error.message)
        complain(f"{error.message} ({error.reason or error.code.name}){detail}")
    if hint := next_step(error, address=address, role=role):
        click.echo(printable(f"  {hint}", err=True), err=True)
    _tell_done(done)


def _tell_done(done: str) -> None:
    if done:
        click.echo(f"  until then {done}; repeat the command to go on: nothing is stored twice", err=True)


def complain(what: str) -> None:
    """Print an error on stderr."""
    click.echo(printable(f"error: {what}", err=True), err=True)
