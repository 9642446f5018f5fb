"""`antiphon key`: the API keys that callers may use."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NoReturn

import click

from services.chassis.auth.api_key import new_key
from services.chassis.auth.configured import CREDENTIALS_NAME, CREDENTIALS_VARIABLE
from services.chassis.auth.credentials import (
    DIGEST_BYTES,
    MOST_NOTE_CHARACTERS,
    MOST_PER_MINUTE,
    CredentialsError,
    StoredKey,
)
from services.chassis.auth.service_key import service_key_path
from services.chassis.auth.values import TENANT, Role
from services.chassis.settings import EX_CONFIG, SettingsError, SuiteSettings, load
from services.cli.key_file import KeyFile, now

EX_UNKNOWN = 1
EX_CANTCREAT = 73
"""Exit status of `sysexits.h`, as EX_CONFIG."""

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_LONGEST = timedelta(days=36_500)


def _duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,7})([mhdw])", value)
    if found and (duration := int(found[1]) * _UNITS[found[2]]) <= _LONGEST:
        return duration
    raise click.BadParameter("give a number with m, h, d or w, such as 12h or 30d, of at most 100 years")


def _tenant(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not TENANT.fullmatch(value):
        raise click.BadParameter("must be 1 to 64 characters of a-z, 0-9, '.', '_' and '-'")
    return value


def _note(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if len(value) > MOST_NOTE_CHARACTERS or not value.isprintable():
        raise click.BadParameter(f"must be at most {MOST_NOTE_CHARACTERS} printable characters")
    return value


_PER_MINUTE = click.IntRange(1, MOST_PER_MINUTE)


@click.group()
def key() -> None:
    """Make, list and revoke the API keys that callers may use.

    They stand in the file that ANTIPHON_CREDENTIALS_FILE names, else in credentials.json in the state folder; not the
    keys themselves, only what recognises them. Running servers see a change within a second; those that were started
    without credentials have to be started again.

    \b
    Exit codes:
      0   done
      1   there is no such key
      2   wrong usage
      73  a file cannot be written
      78  a setting or the credentials file is wrong
    """


@key.command()
@click.option(
    "--tenant",
    callback=_tenant,
    metavar="TENANT",
    required=True,
    help="Whose answers it reaches; nothing is shared by tenants.",
)
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="client asks; operator asks, and looks after the tenant's cache; service is the suite itself.",
)
@click.option(
    "--expires-in",
    callback=_duration,
    metavar="TIME",
    help="How long it works: 30d, 12h. Default: until it is revoked.",
)
@click.option("--requests-per-minute", type=_PER_MINUTE, help="Calls per minute on each process. Default: no limit.")
@click.option("--tokens-per-minute", type=_PER_MINUTE, help="Bought tokens per minute on each process of completion.")
@click.option("--note", callback=_note, metavar="TEXT", default="", help="For people: who has it, what for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, the key in it.")
def create(
    *,
    tenant: str,
    role: str,
    expires_in: timedelta | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    note: str,
    as_json: bool,
) -> None:
    """Make a key and show it, this once.

    The key is all that goes to stdout; what to do with it is said on stderr.
    """
    if role == Role.SERVICE and (requests_per_minute or tokens_per_minute):
        raise click.UsageError("the role service is not limited")
    made = new_key()
    stored = StoredKey(
        id=made.id,
        tenant=tenant,
        role=Role(role),
        hmac_sha256=bytes(DIGEST_BYTES),
        created_at=now(),
        expires_at=now() + expires_in if expires_in else None,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        note=note,
    )
    with _reported():
        settings = load(SuiteSettings, service="cli", environ=os.environ)
        file = _file(settings)
        is_new = file.add(made, stored)
    if as_json:
        click.echo(json.dumps({**_public(stored), "api_key": made.text, "file": str(file.path)}))
        return
    click.echo(made.text)
    click.echo(f"made key {made.id} for tenant {tenant}, role {role}; it is shown only now", err=True)
    if is_new:
        click.echo(
            f"made {file.path} for it, and {service_key_path(settings)}, with which the services call each other;\n"
            "start a running `antiphon up` again: it does not ask for keys yet",
            err=True,
        )
    else:
        click.echo("running servers know it within a second", err=True)
    click.echo(_next_steps(Role(role), settings), err=True)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_(*, as_json: bool) -> None:
    """List all keys, revoked and expired ones too."""
    with _reported():
        file = _file(load(SuiteSettings, service="cli", environ=os.environ))
        credentials = file.read()
    keys = credentials.keys if credentials else ()
    if as_json:
        click.echo(json.dumps({"file": str(file.path), "keys": [_public(stored) for stored in keys]}))
        return
    if credentials is None:
        click.echo("no credentials: everyone on this machine may call everything", err=True)
        click.echo("make the first key: antiphon key create --tenant default --role client", err=True)
        return
    rows = [("id", "tenant", "role", "state", "created", "expires", "requests/min", "tokens/min", "note")]
    rows += [
        (
            stored.id,
            stored.tenant,
            stored.role.value,
            _state(stored),
            _day(stored.created_at),
            _day(stored.expires_at),
            str(stored.requests_per_minute or "-"),
            str(stored.tokens_per_minute or "-"),
            stored.note,
        )
        for stored in keys
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@key.command()
@click.argument("key_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def revoke(*, key_id: str, as_json: bool) -> None:
    """Let a key work no more, for good. ID is what `antiphon key list` shows, the middle part of the key."""
    with _reported():
        file = _file(load(SuiteSettings, service="cli", environ=os.environ))
        revoked = file.revoke(key_id)
    if revoked is None:
        # What was given may be a whole key: it is not repeated.
        click.echo(f"antiphon: {file.path} has no key with this id; `antiphon key list` shows them", err=True)
        sys.exit(EX_UNKNOWN)
    if as_json:
        click.echo(json.dumps(_public(revoked)))
    else:
        click.echo(f"key {revoked.id} of tenant {revoked.tenant} is revoked; running servers know it within a second")
    if revoked.id == file.service_key_id():
        click.echo(
            "the services call each other with this key: make another with `antiphon key create --role service` and "
            "put it in the service key's file",
            err=True,
        )


def _file(settings: SuiteSettings) -> KeyFile:
    return KeyFile(settings.credentials_file or settings.state_dir / CREDENTIALS_NAME, service_key_path(settings))


def _next_steps(role: Role, settings: SuiteSettings) -> str:
    if role is Role.SERVICE:
        return f"next: put the key in {service_key_path(settings)} (mode 0600); completion then uses it within a second"
    example = 'antiphon ask "How do I reset my password?"' if role is Role.CLIENT else "antiphon stats"
    return f"next: export ANTIPHON_API_KEY=<the key>; {example}"


def _public(stored: StoredKey) -> dict[str, Any]:
    return {**stored.model_dump(mode="json", exclude={"hmac_sha256"}), "state": _state(stored)}


def _state(stored: StoredKey) -> str:
    if stored.revoked_at is not None:
        return "revoked"
    return "expired" if stored.expires_at is not None and stored.expires_at <= now() else "active"


def _day(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else "never"


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what can go wrong with settings and files into one line on stderr and an exit status."""
    try:
        yield
    except SettingsError as error:
        _leave(str(error), EX_CONFIG)
    except CredentialsError as error:
        _leave(f"{CREDENTIALS_VARIABLE}: {error}", EX_CONFIG)
    except OSError as error:
        _leave(f"{error.filename}: {error.strerror}", EX_CANTCREAT)


def _leave(problem: str, status: int) -> NoReturn:
    click.echo(f"antiphon: {problem}", err=True)
    sys.exit(status)
