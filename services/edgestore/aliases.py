"""Aliases of collections, in one file that is replaced as a whole (the engine itself has none)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from services.edgestore.files import replace_file


class Aliases:
    """Alias to collection name. Changes are written before they are seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, str] = json.loads(path.read_bytes()) if path.exists() else {}

    def current(self) -> Mapping[str, str]:
        """All aliases."""
        return self._names

    def replace(self, names: Mapping[str, str]) -> None:
        """Let `names` be all aliases from now on, durably."""
        if dict(names) == self._names:
            return
        replace_file(self._path, json.dumps(dict(names), indent=1, sort_keys=True).encode())
        self._names = dict(names)
