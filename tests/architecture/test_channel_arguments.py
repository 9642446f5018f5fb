"""Every channel argument has a name that gRPC knows: it ignores the others without a word."""

from __future__ import annotations

import re
from pathlib import Path

from grpc._cython import cygrpc

ROOT = Path(__file__).resolve().parents[2]
ARGUMENT = re.compile(r'"(grpc\.[a-z0-9_.]+)"')


def test_grpc_knows_every_argument_that_it_is_given() -> None:
    named = {
        name: path.relative_to(ROOT)
        for folder in ("services", "clients/python/antiphon_client")
        for path in (ROOT / folder).rglob("*.py")
        for name in ARGUMENT.findall(path.read_text("utf-8"))
    }
    assert len(named) > 10
    library = Path(cygrpc.__file__).read_bytes()
    assert b"grpc.keepalive_time_ms\0" in library, "names stand in the library as they are"
    unknown = {name: str(path) for name, path in named.items() if name.encode() + b"\0" not in library}
    assert not unknown
