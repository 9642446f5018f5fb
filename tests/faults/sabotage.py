"""Proves that the tests of the fault catalogue would notice: takes each row's handling away and runs its tests.

    python -m tests.faults.sabotage              all rows
    python -m tests.faults.sabotage 34 35        these rows
    python -m tests.faults.sabotage --thorough   also lists marked tests that no patch of their row makes fail

The patches are in `tests/faults/patches/row_NN_<slug>.patch`. Each is applied alone in a scratch copy of the tree, the
tests of its row are run there, and it is taken back. Prints `row | patch | caught` or `MISSED` or what else went wrong;
exits 1 unless every patch applies and is caught, and the tests pass without any patch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import rows
from tests.faults.rows import Patch

ROOT = Path(__file__).resolve().parents[2]
NATIVE = "simcore/_native*.so"
"""What is built, ignored by git, and needed to run."""

TEST_SECONDS = 60
"""For one test: sabotage often shows as a test that waits for ever."""

RUN_SECONDS = 1800
PASSED, FAILED, NO_TESTS = 0, 1, 5  # pytest.ExitCode


@dataclass(frozen=True, slots=True)
class Run:
    """How the tests of a row ended."""

    exit_code: int
    passed: frozenset[str]
    failed: frozenset[str]
    output: str


class Scratch:
    """A copy of the tree, of what git tracks or would track and of what is built, in which tests run."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (root / name).is_file():  # a deleted file is listed until that is committed
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)
        self._native = list(root.glob(NATIVE))
        self._restore_native()
        # The scratch tree comes before what is installed, which points to the original one.
        path = os.pathsep.join([str(folder), str(folder / "clients" / "python")])
        # Without the ceiling git would look for a repository around the folder, and skip what is not part of it.
        self._environ = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_CEILING_DIRECTORIES": str(folder.parent),
        }

    def foreign_module(self) -> str | None:
        """Return a module of ours that would be imported from elsewhere: then nothing here would prove anything."""
        code = (
            "import services, simcore, antiphon, antiphon_client as c; print(services, simcore, antiphon, c, sep='\\n')"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code], cwd=self.folder, env=self._environ, check=True, capture_output=True, text=True
        ).stdout
        return next((line for line in shown.splitlines() if str(self.folder) not in line), None)

    def apply(self, patch: Patch, *, back: bool = False) -> bool:
        """Apply the patch or take it back; returns whether that was possible."""
        command = ["git", "apply", *(["--reverse"] if back else []), str(patch.path)]
        applied = subprocess.run(command, cwd=self.folder, env=self._environ, check=False, capture_output=True)
        return applied.returncode == 0

    def build(self) -> str | None:
        """Build the native module from the scratch sources; returns what the compiler said if it failed."""
        target = self._root / "target" / "sabotage"
        command = ["cargo", "build", "--release", "--quiet", "--locked", "--lib", "--features", "extension-module"]
        built = subprocess.run(
            [*command, "--manifest-path", "simcore/Cargo.toml"],
            cwd=self.folder,
            env={**self._environ, "CARGO_TARGET_DIR": str(target)},
            check=False,
            capture_output=True,
            text=True,
        )
        if built.returncode != 0:
            return built.stderr
        (library,) = target.glob("release/libsimcore.so")
        for native in self._native:
            shutil.copy2(library, self.folder / native.relative_to(self._root))
        return None

    def restore(self, patch: Patch) -> None:
        """Take the patch back, and what was built from it."""
        if not self.apply(patch, back=True):
            raise RuntimeError(f"{patch.path.name} cannot be taken back")
        if patch.changes_rust:
            self._restore_native()

    def run(self, row: int, files: Sequence[Path], *, thorough: bool) -> Run:
        """Run the tests of `row` that are in `files`; unless `thorough`, up to the first failure."""
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
        command += [f"--timeout={TEST_SECONDS}", f"--fault-row={row}", f"--junitxml={report}"]
        command += [*([] if thorough else ["-x"]), *map(str, files)]
        try:
            ran = subprocess.run(
                command,
                cwd=self.folder,
                env=self._environ,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=RUN_SECONDS,
            )
        except subprocess.TimeoutExpired as expired:
            raise RuntimeError(f"the tests of row {row} did not end within {RUN_SECONDS} s") from expired
        passed, failed = _outcomes(report)
        return Run(ran.returncode, passed, failed, ran.stdout)

    def _restore_native(self) -> None:
        for native in self._native:
            shutil.copy2(native, self.folder / native.relative_to(self._root))


def _outcomes(report: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the tests that passed and that failed."""
    passed, failed = set(), set()
    if report.exists():
        for case in ET.parse(report).iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            if case.find("failure") is not None:
                failed.add(name)
            elif case.find("error") is None and case.find("skipped") is None:
                passed.add(name)
    return frozenset(passed), frozenset(failed)


def judged(run: Run) -> str:
    """Say how a patch did, in a word. Only a test that ran and failed counts: broken imports prove nothing."""
    if run.exit_code == FAILED and run.failed:
        return "caught"
    if run.exit_code == PASSED:
        return "MISSED"
    return "NO TESTS" if run.exit_code == NO_TESTS else "BROKEN"


def sabotage(root: Path, wanted: frozenset[int], *, thorough: bool) -> bool:
    """Do it all and print the table; returns whether everything was caught."""
    patches = [patch for patch in rows.patches(root) if not wanted or patch.row in wanted]
    marked = {row: files for row, files in rows.marked(root).items() if not wanted or row in wanted}
    print(f"{'row':>3} | {'patch':<48} | {'result':<8} | failed/run | seconds")
    good = True

    def line(row: int, what: str, result: str, run: Run | None = None, seconds: float = 0.0) -> None:
        counts = f"{len(run.failed)}/{len(run.failed | run.passed)}" if run is not None else ""
        print(f"{row:>3} | {what:<48} | {result:<8} | {counts:<10} | {seconds:.1f}", flush=True)
        if run is not None and result not in {"caught", "passed"}:
            print(run.output)

    with tempfile.TemporaryDirectory(prefix="antiphon-sabotage-") as made:
        scratch = Scratch(root, Path(made).resolve())
        if (foreign := scratch.foreign_module()) is not None:
            print(f"the scratch copy would test another tree: {foreign}")
            return False
        for row in sorted(wanted - marked.keys()):
            line(row, "(no test is marked with this row)", "NO TESTS")
            good = False
        for row, files in marked.items():
            started = time.monotonic()
            untouched = scratch.run(row, files, thorough=True)
            passes = untouched.exit_code == PASSED and bool(untouched.passed)
            line(row, "(none)", "passed" if passes else "FAILS", untouched, time.monotonic() - started)
            of_row = [patch for patch in patches if patch.row == row]
            if not of_row:
                line(row, "(no patch)", "MISSED")
            good = good and passes and bool(of_row)
            caught: set[str] = set()
            for patch in of_row if passes else ():
                started = time.monotonic()
                result, run = _one(scratch, patch, files, thorough=thorough)
                line(row, patch.path.name, result, run, time.monotonic() - started)
                good = good and result == "caught"
                caught |= run.failed if run is not None else frozenset()
            if thorough and passes:
                for name in sorted(untouched.passed - caught):
                    print(f"    | never caught anything: {name}")
        for patch in patches:
            if patch.row not in marked:
                line(patch.row, patch.path.name, "NO TESTS")
                good = False
    return good


def _one(scratch: Scratch, patch: Patch, files: Sequence[Path], *, thorough: bool) -> tuple[str, Run | None]:
    if not scratch.apply(patch):
        return "STALE", None
    try:
        if patch.changes_rust and (said := scratch.build()) is not None:
            print(said)
            return "BROKEN", None
        run = scratch.run(patch.row, files, thorough=thorough)
        return judged(run), run
    finally:
        scratch.restore(patch)


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sabotage", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("rows", nargs="*", type=int, help="rows of the fault catalogue (default: all)")
    parser.add_argument("--thorough", action="store_true", help="run every test of a row, and list those never failing")
    arguments = parser.parse_args()
    return 0 if sabotage(ROOT, frozenset(arguments.rows), thorough=arguments.thorough) else 1


if __name__ == "__main__":
    sys.exit(main())
