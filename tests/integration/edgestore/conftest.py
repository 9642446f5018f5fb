from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.edgestore.store_process import StoreProcess


@pytest.fixture
def process(tmp_path: Path) -> Iterator[StoreProcess]:
    """An embedded store on a folder of its own, not yet started."""
    store = StoreProcess(tmp_path / "state")
    yield store
    store.close()
