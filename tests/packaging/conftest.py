"""The distributions, each built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.distributions import CLIENT, ROOT, Wheel, build, sdist_contents


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
