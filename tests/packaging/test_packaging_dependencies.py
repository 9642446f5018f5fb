"""What is imported is declared, and what is installed is pinned."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.distributions import CLIENT, ROOT, Wheel, project_table

OURS = {"antiphon", "antiphon_client", "services", "simcore", "tests", "tools"}

PART_OF = {"pydantic-core": "pydantic"}
"""Distributions that are imported by name and that another one pins to the exact version."""

INSTALLED_OURSELVES = {"antiphon", "antiphon-client"}


def imported(paths: Iterable[Path]) -> Iterator[str]:
    """Every imported module that is neither ours nor Python's."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            for module in modules:
                if module.split(".")[0] not in OURS | set(sys.stdlib_module_names):
                    yield module


@cache
def origins() -> dict[str, list[str]]:
    """Top-level names to the installed distributions that they come from."""
    return dict(packages_distributions())


def distributions_of(module: str) -> set[str]:
    """The installed distributions that a module may come from; more than one in a shared name space.

    What is not installed (only some make targets do) has the name of its module.
    """
    top = module.split(".", maxsplit=1)[0]
    return {canonicalize_name(name) for name in origins().get(top, [top])}


def names(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def undeclared(paths: Iterable[Path], declared: set[str]) -> set[str]:
    """The imported modules of which no distribution is declared."""
    return {
        module
        for module in imported(paths)
        if not {PART_OF.get(name, name) for name in distributions_of(module)} & declared
    }


def test_the_services_declare_what_they_import(suite_wheel: Wheel, client_wheel: Wheel) -> None:
    paths = [*ROOT.glob("services/**/*.py"), *ROOT.glob("simcore/*.py")]
    declared = names(suite_wheel.metadata("Requires-Dist")) | names(client_wheel.metadata("Requires-Dist"))
    assert undeclared(paths, declared) == set()


def test_the_client_declares_what_it_imports(client_wheel: Wheel) -> None:
    everywhere = names(line for line in client_wheel.metadata("Requires-Dist") if "extra ==" not in line)
    assert everywhere == {"googleapis-common-protos", "grpcio", "protobuf"}
    cli = set(CLIENT.glob("antiphon_client/cli/**/*.py"))
    thin = {*CLIENT.glob("antiphon/**/*.py"), *CLIENT.glob("antiphon_client/**/*.py")} - cli
    assert undeclared(thin, everywhere) == set()
    assert undeclared(cli, names(client_wheel.metadata("Requires-Dist"))) == set()


def test_tools_and_tests_declare_what_they_import(suite_wheel: Wheel, client_wheel: Wheel) -> None:
    run_time = names(suite_wheel.metadata("Requires-Dist")) | names(client_wheel.metadata("Requires-Dist"))
    declared = run_time.union(*(names(group) for group in project_table(ROOT)["dependency-groups"].values()))
    beside = {path.stem for path in ROOT.glob("tests/**/*.py")}  # mypy and scripts see neighbours by their bare names
    paths = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("protos/*.py")]
    assert undeclared(paths, declared) - beside == set()


def test_an_undeclared_import_is_found(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("import os\nimport grpc\nfrom pydantic_core import core_schema\nimport numpy.linalg\n")
    assert undeclared([source], {"grpcio", "pydantic"}) == {"numpy.linalg"}
    assert undeclared([source], {"grpcio", "numpy"}) == {"pydantic_core"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line)
            assert match is not None, f"constraints.txt pins exact versions only: {line}"
            name = canonicalize_name(match[1])
            assert name not in found, f"constraints.txt has {name} twice"
            found[name] = match[2]
    return found


def needed(requirements: Iterable[str]) -> set[str]:
    """All distributions that these requirements bring along here, names in canonical form."""
    seen: set[tuple[str, str]] = set()
    queue = [(Requirement(line), "") for line in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            node = (canonicalize_name(requirement.name), wanted)
            if node not in seen:
                seen.add(node)
                lines = distribution(node[0]).requires or []
                queue.extend((Requirement(line), wanted) for line in lines)
    return {name for name, _ in seen}


@pytest.mark.parametrize("group", ["run time", "dev"])
def test_everything_installed_is_pinned(group: str) -> None:
    """Today's index cannot change what `make` installs."""
    wanted = ["antiphon"] if group == "run time" else project_table(ROOT)["dependency-groups"]["dev"]
    closure = needed(wanted) - INSTALLED_OURSELVES
    pinned = pins()
    assert closure - set(pinned) == set()
    assert {name: version(name) for name in closure} == {name: pinned[name] for name in closure}


def test_nothing_is_pinned_that_is_not_needed() -> None:
    """A pin that nothing asks for any more is a leftover."""
    closure = needed(["antiphon", *project_table(ROOT)["dependency-groups"]["dev"]]) | {"pip"}
    assert set(pins()) - closure == set()
