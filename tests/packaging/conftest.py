"""The distributions, each built once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.packaging.distributions import CLIENT, ROOT, Wheel, build, sdist_contents
from tests.packaging.environments import PIP, run

ONE_TRY = ("--retries", "0", "--timeout", "15")
"""An index that cannot be reached is noticed in seconds."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="session")
def suite_wheel(built: Path) -> Wheel:
    return Wheel(build(ROOT, "build_wheel", built / "suite-wheel"))


@pytest.fixture(scope="session")
def client_wheel(built: Path) -> Wheel:
    return Wheel(build(CLIENT, "build_wheel", built / "client-wheel"))


@pytest.fixture(scope="session")
def suite_sdist(built: Path) -> dict[str, bytes]:
    return sdist_contents(build(ROOT, "build_sdist", built / "suite-sdist"))


@pytest.fixture(scope="session")
def client_sdist(built: Path) -> dict[str, bytes]:
    return sdist_contents(build(CLIENT, "build_sdist", built / "client-sdist"))


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ask the index for the smallest package that these tests need."""
    wanted = ("--no-deps", "--no-cache-dir", "--dest", str(tmp_path_factory.mktemp("index")))
    done = run(*PIP, "download", "--quiet", *ONE_TRY, *wanted, "typing-extensions")
    if done.returncode != 0 and not os.environ.get("CI"):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
