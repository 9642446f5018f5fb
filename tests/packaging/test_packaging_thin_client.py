"""A caller's view: a new environment with `antiphon-client` from its wheel and only what the wheel asks for.

The dependencies come from the package index that pip is configured for. Without one these tests are skipped, except
where `CI` is set: there an index is part of the promise.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.packaging.distributions import ROOT, Wheel
from tests.packaging.environments import ANSWERS, NEEDED, Environment, run, versions


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("kind", ["tested together", "oldest", "protobuf 7"])
def test_the_client_works_by_itself(client_wheel: Wheel, tmp_path: Path, kind: str) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install(str(client_wheel.path), *versions(client_wheel, kind))
    assert environment.installed() == NEEDED

    seen = environment.probe()
    assert {"antiphon.cache.v1.cache_pb2_grpc", "antiphon_client.router", "antiphon_client.cli"} <= set(seen["modules"])
    assert seen["async"] == seen["sync"] == ANSWERS

    command = run(environment.bin / "antiphon", "--help")
    assert (command.returncode, command.stdout) == (1, "")
    assert command.stderr == "the command line needs an extra: pip install 'antiphon-client[cli]'\n"


@pytest.mark.usefixtures("index")
def test_the_extra_gives_the_commands_of_a_caller(client_wheel: Wheel, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install(f"antiphon-client[cli] @ {client_wheel.path.as_uri()}", "-c", str(ROOT / "constraints.txt"))
    shown = run(environment.bin / "antiphon", "--help")
    assert shown.returncode == 0, shown.stderr
    commands = shown.stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+)", commands, re.MULTILINE) == [
        *("ask", "cache", "clear", "entries", "explain", "feedback", "replay", "rollback", "stats")
    ]
    (version,) = client_wheel.metadata("Version")
    assert version in run(environment.bin / "antiphon", "--version").stdout
