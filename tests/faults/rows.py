"""Which rows of the fault catalogue have tests, and which patches take their handling away.

Read from the sources without importing them: a patch may break an import, and importing every test takes seconds.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAST_ROW = 90
"""The catalogue has this many rows, numbered from 1."""

PATCHES = Path("tests/faults/patches")
"""Below the root of the tree."""

_PATCH_NAME = re.compile(r"row_(\d{2})_[a-z0-9_]+\.patch")


@dataclass(frozen=True, slots=True)
class Patch:
    """A unified diff that takes away the handling of one row."""

    row: int
    path: Path

    @property
    def changed(self) -> tuple[str, ...]:
        """The files that it changes, below the root of the tree."""
        return tuple(re.findall(r"^\+\+\+ (?:b/)?(\S+)", self.path.read_text(encoding="utf-8"), re.MULTILINE))

    @property
    def changes_rust(self) -> bool:
        """Whether the native module must be built anew."""
        return any(path.endswith(".rs") or Path(path).name.startswith("Cargo.") for path in self.changed)


def patches(root: Path) -> list[Patch]:
    """Return all patches, by row and name; `ValueError` on a file that is not named as one."""
    found = []
    for path in sorted((root / PATCHES).iterdir()):
        named = _PATCH_NAME.fullmatch(path.name)
        if named is None:
            raise ValueError(f"{path.name}: must be named row_NN_<slug>.patch")
        found.append(Patch(int(named[1]), path))
    return found


def marked(root: Path) -> dict[int, list[Path]]:
    """Return for each row the test files, below `root`, with a `pytest.mark.fault(row)`."""
    rows: dict[int, set[Path]] = defaultdict(set)
    for path in sorted((root / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "fault(" in text:
            for row in _marks(ast.parse(text)):
                rows[row].add(path.relative_to(root))
    return {row: sorted(paths) for row, paths in sorted(rows.items())}


def _marks(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="mark"), attr="fault"), args=rows):
                for row in rows:
                    if not isinstance(row, ast.Constant) or not isinstance(row.value, int):
                        message = f"line {row.lineno}: rows of a fault mark must be plain numbers"
                        raise ValueError(message)  # noqa: TRY004 - it is the source that is wrong
                    yield row.value
