"""What the READMEs tell a stranger to type does what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suite_process import GUARD, SuiteProcess, environment

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = "127.0.0.1:7100"


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[SuiteProcess]:
    started = SuiteProcess(environment(tmp_path / "state"))
    started.wait_for("SERVING")
    yield started
    started.close()


@pytest.mark.parametrize("document", ["README.md", "clients/python/README.md"])
def test_the_example_runs(suite: SuiteProcess, document: str) -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    code = found.group(1)
    assert ADDRESS in code
    assert len([line for line in code.splitlines() if line.strip()]) <= 15, "a stranger needs 15 lines"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.replace(ADDRESS, suite.address("completion"))],
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("stand-in") >= 2, "one answer in one message and one streamed"
