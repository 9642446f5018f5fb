"""The import rules of the tree: which room may import which, and which modules stay free of gRPC."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SHARED = {"antiphon", "services.chassis", "services.llm"}
ROOMS = {"services.storage", "services.embedding", "services.catalogue"}

ALLOWED: dict[str, set[str]] = {
    "antiphon": set(),
    "antiphon_client": {"antiphon"},
    "simcore": set(),
    "services.chassis": {"antiphon", "antiphon_client"},
    "services.llm": {"antiphon", "services.chassis"},
    "services.storage": SHARED,
    "services.embedding": SHARED,
    "services.catalogue": SHARED,
    "services.edgestore": {"services.chassis", "services.storage"},
    "services.cache": SHARED | ROOMS | {"antiphon_client", "simcore"},
    "services.router": SHARED | ROOMS | {"antiphon_client", "simcore"},
    "services.completion": SHARED | ROOMS | {"antiphon_client"},
    "services.cli": SHARED | ROOMS | {"antiphon_client", "services.edgestore"},
}
"""What each room may import besides itself and packages that are not ours."""

BOUNDARY = {
    *("main", "servicer", "adapters", "proto"),
    *("batch_proto", "exporting_proto", "feedback_proto", "importing_proto", "inspecting_proto"),
    *("recent_proto", "reembedding_proto", "removing_proto", "served_proto"),
}
"""Modules and folders of a service that may speak gRPC and protobuf; all others are domain."""


def _sources() -> Iterator[tuple[str, Path]]:
    for base in (ROOT, ROOT / "clients" / "python"):
        for top in ("services", "simcore", "antiphon", "antiphon_client"):
            for path in sorted((base / top).rglob("*.py")):
                parts = path.relative_to(base).with_suffix("").parts
                yield ".".join(parts), path


def _room(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "services":
        return ".".join(parts[:2]) if len(parts) > 1 else None
    return parts[0] if parts[0] in {"simcore", "antiphon", "antiphon_client"} else None


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(module: str, imported: set[str]) -> list[str]:
    """Return what `module` imports against the rules."""
    room = _room(module)
    if room is None or room == "services.__init__":
        return [f"{module}: imports {name}" for name in imported if _room(name)]
    if room not in ALLOWED:
        return [f"{module}: {room} is a room without a rule"]
    wrong = [
        f"{module} -> {name}"
        for name in sorted(imported)
        if (target := _room(name)) is not None and target != room and target not in ALLOWED[room]
    ]
    parts = set(module.split("."))
    domain = room in {"services.cache", "services.router", "services.completion", "services.catalogue"}
    if domain and not parts & BOUNDARY:
        wrong += [
            f"{module} -> {name} (domain)"
            for name in sorted(imported)
            if name.split(".")[0] == "grpc" or "_pb2" in name or name.split(".")[0] == "antiphon"
        ]
    return wrong


def test_every_module_keeps_the_import_rules() -> None:
    found = [problem for module, path in _sources() for problem in violations(module, set(_imports(path)))]
    assert found == []


def test_every_room_exists_and_every_source_was_read() -> None:
    rooms = {_room(module) for module, _ in _sources()}
    assert set(ALLOWED) <= rooms


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("services.cache.lookup", "services.router.policy"),
        ("services.cache.lookup", "grpc"),
        ("services.cache.lookup", "antiphon.cache.v1.cache_pb2"),
        ("services.completion.pipeline", "simcore"),
        ("services.chassis.server", "services.llm.values"),
        ("services.novel.thing", "os"),
        ("antiphon_client.cache", "services.chassis.errors"),
        ("simcore.__init__", "services.chassis"),
    ],
)
def test_the_rules_catch(module: str, imported: str) -> None:
    assert violations(module, {imported})
