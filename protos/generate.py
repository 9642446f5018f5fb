#!/usr/bin/env python3
"""Generate the Python stubs in `clients/python/antiphon` from the protos in this folder, and copy the service config.

    python protos/generate.py            writes the stubs
    python protos/generate.py --check    writes nothing; exits 1 if the committed stubs are not what the protos give

Needs grpcio-tools and mypy-protobuf in the versions of `constraints.txt`.
"""

from __future__ import annotations

import argparse
import importlib.resources
import pathlib
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent / "clients" / "python" / "antiphon"
SERVICE_CONFIG = "service_config.json"
PACKAGE_TEXT = '"""Generated protobuf messages and gRPC stubs of Antiphon; never edited by hand."""\n'


def generate(out: pathlib.Path) -> None:
    """Write the package `antiphon` below `out`."""
    # Imported here so that --help works without the generator.
    from grpc_tools import protoc  # noqa: PLC0415

    sources = sorted(HERE.glob("antiphon/**/*.proto"))
    includes = importlib.resources.files("grpc_tools") / "_proto"
    services = [s for s in sources if "\nservice " in s.read_text()]
    base = ["protoc", f"-I{HERE}", f"-I{includes}"]
    # The plugins stand beside the interpreter that runs this, also when its folder is not on PATH.
    scripts = pathlib.Path(sys.executable).parent
    plugins = [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    messages = [f"--python_out={out}", f"--mypy_out={out}", *plugins]
    grpc = [f"--grpc_python_out={out}", f"--mypy_grpc_out={out}", *plugins]
    for arguments, files in ((messages, sources), (grpc, services)):
        if protoc.main([*base, *arguments, *map(str, files)]) != 0:
            raise SystemExit("protoc failed")
    package = out / "antiphon"
    for folder in [package, *(p for p in package.rglob("*") if p.is_dir())]:
        (folder / "__init__.py").write_text(PACKAGE_TEXT)
    (package / "py.typed").touch()
    shutil.copyfile(HERE / "antiphon" / SERVICE_CONFIG, package / SERVICE_CONFIG)


def differences(made: pathlib.Path, committed: pathlib.Path) -> list[str]:
    """Return the relative paths that are missing, left over, or different."""

    def files(root: pathlib.Path) -> dict[pathlib.Path, bytes]:
        return {
            p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts
        }

    a, b = files(made), files(committed)
    return sorted(str(p) for p in a.keys() | b.keys() if a.get(p) != b.get(p))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare with the committed stubs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        generate(pathlib.Path(scratch))
        made = pathlib.Path(scratch) / "antiphon"
        if args.check:
            stale = differences(made, TARGET)
            for path in stale:
                print(f"stale stub: {path} (run `make gen`)", file=sys.stderr)  # noqa: T201
            return 1 if stale else 0
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(made, TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
