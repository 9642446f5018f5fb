"""A caller's view: a new environment with `antiphon-client` from its wheel and only what the wheel asks for.

The dependencies come from the package index that pip is configured for. Without one these tests are skipped, except
where `CI` is set: there an index is part of the promise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.distributions import ROOT, Wheel, without_python_settings

PROBE = Path(__file__).with_name("thin_client_probe.py")

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")

ONE_TRY = ("--retries", "0", "--timeout", "15")
"""An index that cannot be reached is noticed in seconds."""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environ = without_python_settings()
    return subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=False)


class Environment:
    """A virtual environment without pip; this interpreter's pip installs into it."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"

    def install(self, *arguments: str) -> None:
        done = run(*PIP, "--python", self.bin / "python", "install", "--quiet", "--only-binary", ":all:", *arguments)
        assert done.returncode == 0, done.stderr

    def installed(self) -> set[str]:
        done = run(*PIP, "--python", self.bin / "python", "list", "--format", "json")
        assert done.returncode == 0, done.stderr
        return {package["name"].lower().replace("_", "-") for package in json.loads(done.stdout)}


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ask the index for the smallest package that these tests need."""
    wanted = ("--no-deps", "--no-cache-dir", "--dest", str(tmp_path_factory.mktemp("index")))
    done = run(*PIP, "download", "--quiet", *ONE_TRY, *wanted, "typing-extensions")
    if done.returncode != 0 and not os.environ.get("CI"):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr


def oldest(wheel: Wheel) -> list[str]:
    """The lowest versions that the wheel says it works with."""
    found = []
    for requirement in map(Requirement, sorted(wheel.requirements())):
        (lowest,) = (part.version for part in requirement.specifier if part.operator == ">=")
        found.append(f"{requirement.name}=={lowest}")
    return found


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("versions", ["tested together", "oldest", "protobuf 7"])
def test_the_client_works_by_itself(client_wheel: Wheel, tmp_path: Path, versions: str) -> None:
    chosen = {
        "tested together": ["-c", str(ROOT / "constraints.txt")],
        "oldest": oldest(client_wheel),
        "protobuf 7": ["protobuf>=7,<8"],
    }[versions]
    environment = Environment(tmp_path / "venv")
    environment.install(str(client_wheel.path), *chosen)

    needed = {"antiphon-client", "grpcio", "protobuf", "googleapis-common-protos"}
    assert environment.installed() == needed | {"typing-extensions"}  # which grpcio needs

    # gRPC warns when stubs and library do not fit each other; no warning is acceptable here.
    done = run(environment.bin / "python", "-P", "-W", "error", PROBE)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert {"antiphon.cache.v1.cache_pb2_grpc", "antiphon_client.router", "antiphon_client.cli"} <= set(seen["modules"])
    assert (seen["answer"], seen["streamed"]) == ("hello!", "one|two")
    assert (seen["error"], seen["reason"]) == ("InvalidArgumentError", "EMPTY_PROMPT")

    command = run(environment.bin / "antiphon", "--help")
    assert (command.returncode, command.stdout) == (1, "")
    assert command.stderr == "the command line needs an extra: pip install 'antiphon-client[cli]'\n"


@pytest.mark.usefixtures("index")
def test_the_extra_gives_the_commands_of_a_caller(client_wheel: Wheel, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install(f"antiphon-client[cli] @ {client_wheel.path.as_uri()}", "-c", str(ROOT / "constraints.txt"))
    shown = run(environment.bin / "antiphon", "--help")
    assert shown.returncode == 0, shown.stderr
    commands = shown.stdout.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in commands if line.strip()] == ["ask", "clear", "stats"]
    (version,) = client_wheel.metadata("Version")
    assert version in run(environment.bin / "antiphon", "--version").stdout
