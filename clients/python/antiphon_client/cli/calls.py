"""How a command calls a service: where it is, and what a failure prints and returns."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from antiphon_client.errors import AntiphonError, UnavailableError

EX_FAILED = 1
EX_UNAVAILABLE = 69
EX_INTERRUPTED = 130

COMPLETION_TARGET = "ANTIPHON_COMPLETION_TARGET"
CACHE_TARGET = "ANTIPHON_CACHE_TARGET"
_DEFAULTS = {COMPLETION_TARGET: ("ANTIPHON_COMPLETION_LISTEN", "127.0.0.1:7100"),
             CACHE_TARGET: ("ANTIPHON_CACHE_LISTEN", "127.0.0.1:7101")}  # fmt: skip


def target(variable: str, environ: Mapping[str, str] = os.environ) -> str:
    """Where a service is: its target variable, else where it listens, else the default port on this machine."""
    listen, default = _DEFAULTS[variable]
    return environ.get(variable) or environ.get(listen) or default


@contextmanager
def reported_errors(address: str) -> Iterator[None]:
    """Turn a failed call into one line on stderr, with what to do next, and an exit code."""
    try:
        yield
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
