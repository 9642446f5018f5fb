"""The client on every other Python of this machine that it supports, with both major versions of protobuf.

Each needs an environment of its own, so these tests are run by `make test-pythons` only.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.packaging.distributions import Wheel
from tests.packaging.environments import ANSWERS, NEEDED, Environment, other_pythons, versions

if not os.environ.get("ANTIPHON_TEST_PYTHONS"):
    pytest.skip("takes long: make test-pythons", allow_module_level=True)


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("kind", ["protobuf 6", "protobuf 7"])
@pytest.mark.parametrize(("version", "python"), [pytest.param(*each, id=each[0]) for each in other_pythons().items()])
def test_the_client_works_on_other_pythons(
    client_wheel: Wheel, tmp_path: Path, version: str, python: Path, kind: str
) -> None:
    environment = Environment(tmp_path / "venv", python)
    environment.install(str(client_wheel.path), *versions(client_wheel, kind))
    assert environment.installed() == NEEDED
    seen = environment.probe()
    assert ".".join(map(str, seen["python"])) == version
    assert seen["async"] == seen["sync"] == ANSWERS
