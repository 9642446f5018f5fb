"""What `antiphon` ships: the services and simcore, their data, and nothing of how they are made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

from tests.packaging.distributions import CLIENT, ROOT, Wheel, on_disk, project_table, without_python_settings

DATA = {
    "services/catalogue/default.toml": "services/catalogue/catalogue.py",
    "services/router/complexity.json": "services/router/complexity.py",
    "services/cache/verifier/minilm.json": "services/cache/adapters/verifier_file.py",
}
"""Each data file that is part of a package, and the module that reads it."""

READS_DATA = re.compile(r"\bresources\.|\b__file__\b|\bget_data\(")
"""The ways in which a module finds files of its own package."""

METADATA = {
    *("dist-info/METADATA", "dist-info/WHEEL", "dist-info/RECORD", "dist-info/entry_points.txt"),
    *("dist-info/licenses/LICENSE", "dist-info/licenses/NOTICE"),
    "dist-info/sboms/simcore.cyclonedx.json",  # PEP 770: the crates inside the binary, written by maturin
}

LOADS_EVERYTHING = """
import importlib, json, pkgutil, sys
import services, simcore
found = [simcore.__file__, simcore._native.__file__]
for module in pkgutil.walk_packages(services.__path__, "services."):
    if not module.name.endswith("__main__"):
        found.append(importlib.import_module(module.name).__file__)
from services.catalogue.catalogue import Catalogue
from services.router.complexity import ComplexityModel
models = [model.name for model in Catalogue.load(None, {}).models]
print(json.dumps({"files": found, "models": models, "complexity": ComplexityModel.packaged().version}))
"""


def test_the_wheel_holds_the_packages_and_their_data_only(suite_wheel: Wheel) -> None:
    expected = on_disk(ROOT, "services/**/*.py", "simcore/*.py", "simcore/*.pyi", "simcore/py.typed", *DATA)
    binary = "simcore/_native.abi3.so"
    assert set(suite_wheel.contents) == {*expected, binary, *METADATA}
    assert {name: suite_wheel.contents[name] for name in expected} == expected
    assert suite_wheel.contents[binary].startswith(b"\x7fELF")


def test_every_module_that_reads_package_data_is_known() -> None:
    sources = on_disk(ROOT, "services/**/*.py", "simcore/*.py")
    readers = {name for name, text in sources.items() if READS_DATA.search(text.decode())}
    assert readers == set(DATA.values())
    for data, reader in DATA.items():
        assert f'"{Path(data).name}"' in sources[reader].decode()


def test_the_wheel_works_by_itself(suite_wheel: Wheel, tmp_path: Path) -> None:
    """Unpacked elsewhere, every module can be imported and finds its data."""
    with zipfile.ZipFile(suite_wheel.path) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOADS_EVERYTHING],
        cwd=tmp_path,
        env=without_python_settings() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(tmp_path) for file in loaded["files"])
    sources = [name for name in suite_wheel.contents if name.startswith("services/") and name.endswith(".py")]
    beside = {"services/__init__.py", *(name for name in sources if name.endswith("/__main__.py"))}
    assert len(loaded["files"]) == 2 + len(set(sources) - beside)
    assert {"offline-small", "offline-large"} <= set(loaded["models"])
    assert loaded["complexity"] >= 1


def test_the_wheel_serves_every_python_that_it_declares(suite_wheel: Wheel) -> None:
    assert suite_wheel.metadata("Requires-Python") == [">=3.11"]
    assert "-cp311-abi3-" in suite_wheel.path.name


def test_the_wheel_carries_its_licences(suite_wheel: Wheel) -> None:
    assert suite_wheel.metadata("License-Expression") == ["Apache-2.0"]
    assert suite_wheel.metadata("License-File") == ["LICENSE", "NOTICE"]
    for name in ("LICENSE", "NOTICE"):
        assert suite_wheel.contents[f"dist-info/licenses/{name}"] == (ROOT / name).read_bytes()


def test_the_wheel_adds_the_commands_of_the_server_side(suite_wheel: Wheel) -> None:
    points = ConfigParser()
    points.read_string(suite_wheel.contents["dist-info/entry_points.txt"].decode())
    assert {name: dict(points[name]) for name in points.sections()} == {
        "antiphon.commands": {
            "key": "services.cli.key:key",
            "model": "services.cli.model:model",
            "up": "services.cli.up:up",
        }
    }


def test_the_suite_needs_exactly_the_client_of_its_own_version(suite_wheel: Wheel) -> None:
    (version,) = suite_wheel.metadata("Version")
    assert f"antiphon-client[cli]=={version}" in suite_wheel.requirements()
    assert project_table(CLIENT)["project"]["version"] == version
    assert f'\nversion = "{version}"\n' in (ROOT / "simcore" / "Cargo.toml").read_text()


def test_the_source_distribution_holds_what_a_build_needs(suite_sdist: dict[str, bytes]) -> None:
    """By hand it was built and used once; compiling it here would take longer than all other tests of packaging."""
    python = on_disk(ROOT, "services/**/*.py", "simcore/*.py", "simcore/*.pyi", "simcore/py.typed", *DATA)
    rust = on_disk(ROOT, *(f"simcore/{part}/**/*.rs" for part in ("src", "tests", "benches")), "simcore/src/**/*.txt")
    cargo = on_disk(ROOT, "simcore/Cargo.lock", "simcore/*.toml", "simcore/README.md")
    about = on_disk(ROOT, "pyproject.toml", "README.md", "services/README.md", "simcore/docs/*", "LICENSE", "NOTICE")
    made_anew = {
        "PKG-INFO",
        "simcore/Cargo.toml",
        "pyproject.toml",
    }  # the last two may be rewritten for their new place
    expected = python | rust | cargo | about
    assert set(suite_sdist) == {*expected, *made_anew}
    unchanged = set(expected) - made_anew
    assert {name: suite_sdist[name] for name in unchanged} == {name: expected[name] for name in unchanged}
