"""A check of what the processes of all tests have written, when the last test has run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.canaries import leaks, outputs


@pytest.fixture(scope="session", autouse=True)
def no_secret_in_outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No planted secret and no API key is in what any suite of these tests has written."""
    yield
    assert not (found := leaks(outputs(tmp_path_factory.getbasetemp()))), "\n".join(found)
