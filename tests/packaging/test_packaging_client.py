"""What `antiphon-client` ships: stubs and typed clients that need three packages, and no trace of the servers."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

from tests.packaging.distributions import CLIENT, ROOT, Wheel, build, on_disk

METADATA = {
    *("dist-info/METADATA", "dist-info/WHEEL", "dist-info/RECORD", "dist-info/entry_points.txt"),
    "dist-info/licenses/LICENSE",
}

PACKAGES = (
    "antiphon/**/*.py",
    "antiphon/**/*.pyi",
    "antiphon/service_config.json",
    "antiphon_client/**/*.py",
    "*/py.typed",
)


def test_the_wheel_holds_the_stubs_and_the_clients_only(client_wheel: Wheel) -> None:
    expected = on_disk(CLIENT, *PACKAGES)
    assert set(client_wheel.contents) == {*expected, *METADATA}
    assert {name: client_wheel.contents[name] for name in expected} == expected
    assert {"antiphon/py.typed", "antiphon_client/py.typed"} <= set(expected)


def test_every_contract_has_its_stubs(client_wheel: Wheel) -> None:
    protos = on_disk(ROOT / "protos", "antiphon/**/*.proto")
    assert protos
    for proto in protos:
        stem = proto.removesuffix(".proto")
        assert {f"{stem}_pb2.py", f"{stem}_pb2.pyi"} <= set(client_wheel.contents)


def test_a_client_needs_three_packages(client_wheel: Wheel) -> None:
    assert client_wheel.requirements() == {
        "googleapis-common-protos<2,>=1.70",
        "grpcio<2,>=1.76",
        "protobuf<8,>=6.31.1",
    }
    assert client_wheel.metadata("Provides-Extra") == ["cli"]
    assert client_wheel.metadata("Requires-Python") == [">=3.11"]


def test_the_wheel_carries_its_licence(client_wheel: Wheel) -> None:
    assert client_wheel.metadata("License-Expression") == ["Apache-2.0"]
    assert client_wheel.contents["dist-info/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_brings_the_command(client_wheel: Wheel) -> None:
    points = ConfigParser()
    points.read_string(client_wheel.contents["dist-info/entry_points.txt"].decode())
    assert {name: dict(points[name]) for name in points.sections()} == {
        "console_scripts": {"antiphon": "antiphon_client.cli:main"}
    }


def test_the_source_distribution_builds_the_same(
    client_sdist: dict[str, bytes], client_wheel: Wheel, tmp_path: Path
) -> None:
    expected = on_disk(CLIENT, *PACKAGES, "README.md", "LICENSE", "pyproject.toml")
    assert set(client_sdist) == {*expected, "PKG-INFO", ".gitignore"}  # hatchling always adds the ignore file
    assert {name: client_sdist[name] for name in expected} == expected
    for name, content in client_sdist.items():
        place = tmp_path / "unpacked" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    assert Wheel(build(tmp_path / "unpacked", "build_wheel", tmp_path / "built")).contents == client_wheel.contents
