"""New virtual environments, as a caller would make them, of this interpreter or of another one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tests.packaging.distributions import ROOT, Wheel, without_python_settings

PROBE = Path(__file__).with_name("thin_client_probe.py")

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")

NEEDED = {"antiphon-client", "grpcio", "protobuf", "googleapis-common-protos"} | {"typing-extensions"}
"""What a caller installs; the last is needed by grpcio."""


ANSWERS = {
    "answer": "hello!",
    "again": "hi!",
    "streamed": "one|two",
    "error": "InvalidArgumentError",
    "reason": "EMPTY_PROMPT",
}
"""What each kind of client sees in the probe."""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command elsewhere, without what would change what a Python imports."""
    environ = without_python_settings()
    return subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=False)


class Environment:
    """A virtual environment without pip; this interpreter's pip installs into it."""

    def __init__(self, folder: Path, python: Path | None = None) -> None:
        """Of this interpreter, or of `python`."""
        if python is None:
            venv.create(folder, symlinks=True)
        else:
            made = run(python, "-m", "venv", "--without-pip", folder)
            assert made.returncode == 0, made.stderr
        self.bin = folder / "bin"

    def install(self, *arguments: str) -> None:
        """Install from the index, without compiling."""
        done = run(*PIP, "--python", self.bin / "python", "install", "--quiet", "--only-binary", ":all:", *arguments)
        assert done.returncode == 0, done.stderr

    def installed(self) -> set[str]:
        """The distributions in it, names in canonical form."""
        done = run(*PIP, "--python", self.bin / "python", "list", "--format", "json")
        assert done.returncode == 0, done.stderr
        return {package["name"].lower().replace("_", "-") for package in json.loads(done.stdout)}

    def probe(self) -> dict[str, Any]:
        """Run the probe; any warning is an error, also gRPC's when stubs and library do not fit each other."""
        done = run(self.bin / "python", "-P", "-W", "error", PROBE)
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen


def versions(wheel: Wheel, kind: str) -> list[str]:
    """What to tell pip about the versions of what the wheel needs."""
    if kind == "oldest":
        return [
            f"{requirement.name}=={part.version}"
            for requirement in map(Requirement, sorted(wheel.requirements()))
            for part in requirement.specifier
            if part.operator == ">="
        ]
    return {
        "tested together": ["-c", str(ROOT / "constraints.txt")],
        "protobuf 6": ["protobuf>=6,<7"],
        "protobuf 7": ["protobuf>=7,<8"],
    }[kind]


def other_pythons() -> dict[str, Path]:
    """The interpreters of this machine that the client supports, but for this one's version; by version, as `3.12`."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [*map(Path, os.get_exec_path()), *sorted(root.glob("versions/*/bin"))]
    found: dict[str, Path] = {}
    for candidate in (path for folder in folders for path in sorted(folder.glob("python3.[0-9]*"))):
        if re.fullmatch(r"python3\.\d+", candidate.name):
            shown = run(candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
            if shown.returncode == 0 and int(shown.stdout.partition(".")[2]) >= 11:
                found.setdefault(shown.stdout.strip(), candidate)
    found.pop("{}.{}".format(*sys.version_info[:2]), None)
    return found
