"""The targets of make."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.packaging.distributions import ROOT


def make(*arguments: str) -> str:
    done = subprocess.run(["make", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_is_the_default_and_tells_of_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = make("--no-print-directory").splitlines()
    assert {line.split()[0] for line in shown} == set(" ".join(phony).split())
    assert all(re.fullmatch(r"[a-z-]+ {2,}\S.*", line) for line in shown)


def test_continuous_integration_runs_the_same_everywhere() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make .*$", script, re.MULTILINE) == ["make lint", "make test"]
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


OLD = """#!/bin/sh
exec "{python}" -c 'import sys; sys.version_info = (3, 10, 13); exec(sys.argv[2])' "$@"
"""
"""A Python that says it is old; it knows `-c` only."""


def test_an_older_python_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python-of-yesterday"
    old.write_text(OLD.format(python=sys.executable))
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", str(tmp_path), "setup", f"PYTHON={old}"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr.startswith(f"Antiphon needs Python 3.11 or newer; {old} is older.")
    assert not (tmp_path / ".venv").exists()
