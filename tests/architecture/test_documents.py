"""What is made from code and metadata is what the code and the metadata give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("tool", ["tools/documents.py", "tools/notice.py", "protos/generate.py"])
def test_it_is_fresh(tool: str) -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / tool, "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
