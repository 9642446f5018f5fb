"""The command group `antiphon cache`."""

from __future__ import annotations

import click

from antiphon_client.cli.cache.export import export
from antiphon_client.cli.cache.importing import import_
from antiphon_client.cli.cache.invalidate import invalidate
from antiphon_client.cli.cache.reembed import reembed
from antiphon_client.cli.cache.report.command import report
from antiphon_client.cli.cache.warm import warm


@click.group()
def cache() -> None:
    """Move, fill and empty the cache, change its embedder, and report on it. For operators."""


for command in (export, import_, warm, invalidate, reembed, report):
    cache.add_command(command)
