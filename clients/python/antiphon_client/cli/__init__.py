"""The command `antiphon`.

Commands of this package call the services; further ones come from installed packages through the entry-point group
`antiphon.commands` (the server side adds `up` and `model`). How they end stands in `exits.py`.
"""

from __future__ import annotations

import sys

from antiphon_client.cli.exits import INTERRUPTED

NEEDS_EXTRA = "the command line needs an extra: pip install 'antiphon-client[cli]'"


def main() -> None:
    """Run the command line."""
    try:
        from antiphon_client.cli.group import run  # noqa: PLC0415 -- click and rich are absent without the extra [cli]

        run()
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.exit(NEEDS_EXTRA)
    except KeyboardInterrupt:  # before there is a command that would know what to do
        sys.exit(INTERRUPTED)
