"""How a command calls a service: where it is, and what a failure prints and returns."""

from __future__ import annotations

import asyncio
import os
import sys
import tomllib
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from antiphon_client.errors import AntiphonError, UnavailableError

EX_FAILED = 1
EX_UNAVAILABLE = 69
EX_CONFIG = 78
EX_INTERRUPTED = 130

CONFIG = "ANTIPHON_CONFIG"

COMPLETION_TARGET = "ANTIPHON_COMPLETION_TARGET"
CACHE_TARGET = "ANTIPHON_CACHE_TARGET"
_DEFAULTS = {COMPLETION_TARGET: ("ANTIPHON_COMPLETION_LISTEN", "127.0.0.1:7100"),
             CACHE_TARGET: ("ANTIPHON_CACHE_LISTEN", "127.0.0.1:7101")}  # fmt: skip


class BrokenOffError(AntiphonError):
    """A stream ended before the answer did; what was printed is incomplete."""


def target(variable: str, environ: Mapping[str, str] = os.environ) -> str:
    """Where a service is: its target setting, else where it listens, else the default port on this machine.

    Settings come from the environment, else from the table `[suite]` of the file that `ANTIPHON_CONFIG` names.
    """
    listen, default = _DEFAULTS[variable]
    suite = _suite_table(environ)
    for name in (variable, listen):
        if value := environ.get(name) or suite.get(name.removeprefix("ANTIPHON_").lower()):
            return str(value)
    return default


def _suite_table(environ: Mapping[str, str]) -> Mapping[str, Any]:
    if not (location := environ.get(CONFIG)):
        return {}
    try:
        table = tomllib.loads(Path(location).expanduser().read_text(encoding="utf-8")).get("suite", {})
    except (OSError, ValueError):
        click.echo(f"error: {CONFIG}: the file cannot be read as TOML", err=True)
        sys.exit(EX_CONFIG)
    return table if isinstance(table, dict) else {}


@contextmanager
def reported_errors(address: str) -> Iterator[None]:
    """Turn a failed call into one line on stderr, with what to do next, and an exit code."""
    try:
        yield
    except BrokenOffError as error:
        click.echo(f"error: the answer broke off and is incomplete: {error.message}", err=True)
        sys.exit(EX_FAILED)
    except UnavailableError as error:
        if error.reason:
            click.echo(f"error: {error.message} ({error.reason}); it may pass, try again", err=True)
            sys.exit(EX_FAILED)
        click.echo(f"error: no service answers at {address}; is `antiphon up` running?", err=True)
        sys.exit(EX_UNAVAILABLE)
    except AntiphonError as error:
        detail = "".join(f"\n  {field}: {what}" for field, what in error.fields.items())
        reason = f" ({error.reason})" if error.reason else f" ({error.code.name})"
        click.echo(f"error: {error.message}{reason}{detail}", err=True)
        sys.exit(EX_FAILED)


def run(body: Callable[[], Coroutine[Any, Any, None]], address: str) -> None:
    """Run a command's body; errors and Ctrl-C become exit codes."""
    try:
        with reported_errors(address):
            asyncio.run(body())
    except KeyboardInterrupt:
        sys.exit(EX_INTERRUPTED)
