"""The two distributions of this repository, built as pip would build them, and what they hold."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "python"


def without_python_settings() -> dict[str, str]:
    """The environment, with the tools of this interpreter first and without what would change what a Python imports."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    return kept | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def project_table(project: Path) -> dict[str, Any]:
    """The pyproject.toml of a project."""
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


def build(project: Path, hook: str, out: Path) -> Path:
    """Call a PEP 517 hook (`build_wheel`, `build_sdist`) of the project's backend; return the file that it made."""
    backend = project_table(project)["build-system"]["build-backend"]
    script = f"import sys, {backend} as backend; backend.{hook}(sys.argv[1])"
    out.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(out)],
        cwd=project,
        env=without_python_settings(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = out.iterdir()
    return made


@dataclass(frozen=True)
class Wheel:
    """A built wheel."""

    path: Path

    @cached_property
    def contents(self) -> dict[str, bytes]:
        """Every file and its bytes, with the version taken out of the metadata folder's name."""
        with zipfile.ZipFile(self.path) as archive:
            names = archive.namelist()
            assert len(names) == len(set(names)), "a file is in the wheel twice"
            return {self._plain(name): archive.read(name) for name in names}

    @staticmethod
    def _plain(name: str) -> str:
        top, slash, rest = name.partition("/")
        return f"dist-info/{rest}" if slash and top.endswith(".dist-info") else name

    def metadata(self, key: str) -> list[str]:
        """All values of a field of METADATA."""
        return [str(value) for value in message_from_bytes(self.contents["dist-info/METADATA"]).get_all(key, [])]

    def requirements(self) -> set[str]:
        """What an installation without extras needs, names in canonical form, each with its version limits."""
        found: set[str] = set()
        for requirement in map(Requirement, self.metadata("Requires-Dist")):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
                found.add(f"{canonicalize_name(requirement.name)}{extras}{requirement.specifier}")
        return found


def sdist_contents(path: Path) -> dict[str, bytes]:
    """Every file of a source distribution and its bytes, without the folder that they all lie in."""
    found: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isdir():
                file = archive.extractfile(member)
                assert file is not None, f"{member.name} is not a plain file"
                found[member.name.partition("/")[2]] = file.read()
    return found


def on_disk(base: Path, *patterns: str) -> dict[str, bytes]:
    """The files below `base` that match a pattern, by their path relative to it, and their bytes."""
    return {
        path.relative_to(base).as_posix(): path.read_bytes()
        for pattern in patterns
        for path in base.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
