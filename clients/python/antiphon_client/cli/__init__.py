"""The command `antiphon`.

Commands of this package call the services; further ones come from installed packages through the entry-point group
`antiphon.commands` (the server side adds `up` and `model`).

Exit codes: 0 done; 1 the call failed (the reason is on stderr); 2 wrong usage; 69 a service cannot be reached;
78 a setting or file is wrong; 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

NEEDS_EXTRA = "the command line needs an extra: pip install 'antiphon-client[cli]'"


def main() -> None:
    """Run the command line."""
    try:
        import click  # noqa: PLC0415 -- absent without the extra [cli]

        from antiphon_client.cli.ask import ask  # noqa: PLC0415
        from antiphon_client.cli.clear import clear  # noqa: PLC0415
        from antiphon_client.cli.stats import stats  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.exit(NEEDS_EXTRA)

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(package_name="antiphon-client")
    def antiphon() -> None:
        """Answers from a semantic cache or from the cheapest model that is good enough."""

    for command in (ask, stats, clear):
        antiphon.add_command(command)
    for point in sorted(entry_points(group="antiphon.commands"), key=lambda p: p.name):
        antiphon.add_command(point.load(), point.name)
    antiphon(prog_name="antiphon")
