"""The command group `antiphon`."""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points

import click

from antiphon_client.cli import exits
from antiphon_client.cli.ask import ask
from antiphon_client.cli.cache.group import cache
from antiphon_client.cli.calls import complain
from antiphon_client.cli.clear import clear
from antiphon_client.cli.entries import entries
from antiphon_client.cli.explain import explain
from antiphon_client.cli.feedback import feedback
from antiphon_client.cli.replay.command import replay
from antiphon_client.cli.rollback import rollback
from antiphon_client.cli.stats.command import stats

COMMANDS = "antiphon.commands"
"""Entry-point group of commands that other packages bring."""


class Group(click.Group):
    """A group in which Ctrl-C, a full disk and arguments that are no text end every command the same way."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(exits.INTERRUPTED)
        except UnicodeEncodeError:
            # Bytes of the command line that are no text of this locale (PEP 383).
            complain("an argument is not UTF-8")
            sys.exit(exits.USAGE)
        except BrokenPipeError:
            raise  # click's: whoever read has gone
        except OSError as error:
            complain(f"the output cannot be written: {error.strerror or error}")
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter tries again at its end
            sys.exit(exits.CANNOT_WRITE)
        return found


@click.group(cls=Group, epilog=exits.table(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="antiphon-client")
def antiphon() -> None:
    """Answers from a semantic cache or from the cheapest model that is good enough.

    Settings come from the environment, or from the file that ANTIPHON_CONFIG names. A server that asks for an API key
    gets the one in ANTIPHON_API_KEY, or in the file that ANTIPHON_API_KEY_FILE names.
    """


def run() -> None:
    """Run the command line with the commands of every installed package."""
    for command in (ask, stats, explain, entries, feedback, rollback, clear, cache, replay):
        antiphon.add_command(command)
    for point in sorted(entry_points(group=COMMANDS), key=lambda p: p.name):
        antiphon.add_command(point.load(), point.name)
    antiphon(prog_name="antiphon")
