"""What the READMEs tell a stranger to type does what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.suite_process import GUARD, SuiteProcess, environment

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = "127.0.0.1:7100"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuiteProcess]:
    started = SuiteProcess(environment(tmp_path_factory.mktemp("readme") / "state"))
    started.wait_for("SERVING")
    yield started
    started.close()


def examples(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


EXAMPLES = [
    pytest.param(code, id=f"{document} {number}")
    for document in ("README.md", "clients/python/README.md")
    for number, code in enumerate(examples(document), 1)
]
FIRST = [examples("README.md")[0], *examples("clients/python/README.md")[:2]]
"""What a stranger tries first: one answer in one message and one streamed, without a loop and with one."""


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_runs(suite: SuiteProcess, code: str) -> None:
    assert ADDRESS in code
    assert len([line for line in code.splitlines() if line.strip()]) <= 15, "a stranger needs 15 lines"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.replace(ADDRESS, suite.address("completion"))],
        env={**os.environ, "ANTIPHON_API_KEY": "ap_abcdefghijkl_not-a-key-that-anyone-has"},
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("stand-in") >= (2 if code in FIRST else 1)
