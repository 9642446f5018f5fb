"""The installed client is typed: a user's file passes `mypy --strict`, and its mistakes are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.distributions import Wheel, without_python_settings
from tests.packaging.environments import Environment, versions

USER = Path(__file__).with_name("typed_user.py")


@pytest.mark.usefixtures("index")
def test_a_users_file_passes_strict_mypy(client_wheel: Wheel, tmp_path: Path) -> None:
    """Also when stubs of gRPC and protobuf are installed beside it, which tell mypy more."""
    environment = Environment(tmp_path / "venv")
    constraints = versions(client_wheel, "tested together")
    environment.install(str(client_wheel.path), *constraints)
    folder = tmp_path / "user"  # far from the sources: nothing but what is installed is seen
    folder.mkdir()
    (folder / "user.py").write_text(USER.read_text(encoding="utf-8"))
    assert mypy(folder, environment) == "Success: no issues found in 1 source file\n"
    environment.install("types-grpcio", "types-protobuf", *constraints)
    assert mypy(folder, environment) == "Success: no issues found in 1 source file\n"


def mypy(folder: Path, environment: Environment) -> str:
    """What mypy says about the user's file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(environment.bin / "python")]
    return subprocess.run(
        [*command, "--config-file", "", "--cache-dir", str(folder.parent / "cache"), "user.py"],
        cwd=folder,
        env=without_python_settings(),
        capture_output=True,
        text=True,
        check=False,
    ).stdout
