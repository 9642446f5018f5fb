"""Options and checks that hold for every test: rows of the fault catalogue."""

from __future__ import annotations

import signal

import pytest

from tests.faults.rows import LAST_ROW


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault-row", type=int, default=None, metavar="N", help="run only the tests of this row of the fault catalogue"
    )


def pytest_configure() -> None:
    # Shells start background jobs with SIGINT ignored, and children inherit that; here some are sent it as Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = ("tests/integration/suite/", "tests/integration/tenants/", "tests/integration/cache/", "tests/integration/cli/")
"""Where files take longest. They come first, so that at the end no process waits for another with a long one."""


def _place(item: pytest.Item) -> int:
    return next((place for place, folder in enumerate(LONG) if item.nodeid.startswith(folder)), len(LONG))


def _rows(item: pytest.Item) -> set[int]:
    rows: set[int] = set()
    for marker in item.iter_markers("fault"):
        if (
            not marker.args
            or marker.kwargs
            or not all(type(row) is int and 1 <= row <= LAST_ROW for row in marker.args)
        ):
            raise pytest.UsageError(f"{item.nodeid}: fault() takes rows of the fault catalogue, 1 to {LAST_ROW}")
        rows.update(marker.args)
    return rows


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    rows = {item: _rows(item) for item in items}
    wanted = config.getoption("--fault-row")
    if wanted is None:
        return
    config.hook.pytest_deselected(items=[item for item in items if wanted not in rows[item]])
    items[:] = [item for item in items if wanted in rows[item]]
