"""The fault catalogue's machinery: marks and patches belong together, and the tool tells caught from missed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.faults import rows
from tests.faults.sabotage import ROOT, Run, Scratch, judged, sabotage

PATCHES = rows.patches(ROOT)
CODE = ("services/", "simcore/", "clients/")


def test_every_marked_row_has_a_patch_and_every_patch_a_marked_test() -> None:
    assert set(rows.marked(ROOT)) == {patch.row for patch in PATCHES}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.path.stem)
def test_every_patch_applies_and_takes_away_product_code(patch: rows.Patch) -> None:
    checked = subprocess.run(["git", "apply", "--check", patch.path], cwd=ROOT, check=False, capture_output=True)
    assert checked.returncode == 0, checked.stderr.decode()
    assert patch.changed
    assert all(path.startswith(CODE) for path in patch.changed)


def test_marks_are_read_wherever_they_stand(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_a.py").write_text(
        "import pytest\npytestmark = pytest.mark.fault(3)\n"
        "@pytest.mark.fault(1, 2)\ndef test_x(): ...\n"
        "P = pytest.param(1, marks=pytest.mark.fault(4))\ndefault(9)\n"
    )
    (tests / "test_b.py").write_text("from pytest import mark\n@mark.other(7)\ndef test_x(): ...  # fault(8)\n")
    assert rows.marked(tmp_path) == {row: [Path("tests/test_a.py")] for row in (1, 2, 3, 4)}
    (tests / "test_c.py").write_text("import pytest\nN = 5\n@pytest.mark.fault(N)\ndef test_x(): ...\n")
    with pytest.raises(ValueError, match="plain numbers"):
        rows.marked(tmp_path)


def test_a_patch_must_be_named_as_one(tmp_path: Path) -> None:
    folder = tmp_path / rows.PATCHES
    folder.mkdir(parents=True)
    (folder / "row_34_cap.patch").write_text("--- a/simcore/src/lib.rs\n+++ b/simcore/src/lib.rs\n")
    (found,) = rows.patches(tmp_path)
    assert (found.row, found.changed, found.changes_rust) == (34, ("simcore/src/lib.rs",), True)
    (folder / "cap.patch").touch()
    with pytest.raises(ValueError, match=r"cap\.patch"):
        rows.patches(tmp_path)


@pytest.mark.parametrize(
    ("exit_code", "failed", "expected"),
    [(0, (), "MISSED"), (1, ("t",), "caught"), (1, (), "BROKEN"), (2, (), "BROKEN"), (5, (), "NO TESTS")],
)
def test_only_a_test_that_ran_and_failed_counts(exit_code: int, failed: tuple[str, ...], expected: str) -> None:
    assert judged(Run(exit_code, frozenset(), frozenset(failed), "")) == expected


CONFTEST = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
PRODUCT = "def cap(n):\n    if n > 3:\n        n = 3\n    return n\n"
PATCH = (
    "--- a/services/p.py\n+++ b/services/p.py\n@@ -1,4 +1,4 @@\n def cap(n):\n-    if n > {0}:\n+    if n > {1}:\n"
    + ("         n = 3\n     return n\n")
)


@pytest.fixture
def small_tree(tmp_path: Path) -> Path:
    """A repository with the machinery and one product module with one fault row."""
    root = tmp_path / "tree"
    for name in ("tests/faults/patches", "services", "simcore", "clients/python/antiphon", "tests/faults"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for package in ("services", "simcore", "clients/python/antiphon"):
        (root / package / "__init__.py").touch()
    (root / "clients/python/antiphon_client.py").touch()
    (root / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\nmarkers = ['fault(row): a row']\naddopts = '--strict-markers'\n"
    )
    (root / "tests/conftest.py").write_text(CONFTEST)
    (root / "tests/faults/rows.py").write_text((ROOT / "tests/faults/rows.py").read_text(encoding="utf-8"))
    (root / "services/p.py").write_text(PRODUCT)
    (root / "tests/test_p.py").write_text(
        "import pytest\nfrom services.p import cap\n\n"
        "@pytest.mark.fault(34)\ndef test_cap():\n    assert cap(9) == 3\n\n"
        "def test_of_no_row():\n    raise AssertionError('must not run')\n"
    )
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def patched(root: Path, slug: str, text: str) -> None:
    (root / rows.PATCHES / f"row_34_{slug}.patch").write_text(text)


def test_a_good_patch_is_caught_and_the_tree_is_left_alone(
    small_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patched(small_tree, "no_cap", PATCH.format(3, 99))
    patched(small_tree, "other_cap", PATCH.format(3, 50))
    assert sabotage(small_tree, frozenset({34}), thorough=False)
    assert capsys.readouterr().out.count("| caught ") == 2
    assert (small_tree / "services/p.py").read_text() == PRODUCT


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        (PATCH.format(3, 4), "MISSED"),
        (PATCH.format(7, 99), "STALE"),
        (PATCH.format(3, "(nonsense"), "BROKEN"),
    ],
)
def test_what_is_not_caught_is_told(
    small_tree: Path, capsys: pytest.CaptureFixture[str], patch: str, result: str
) -> None:
    patched(small_tree, "bad", patch)
    assert not sabotage(small_tree, frozenset(), thorough=False)
    assert f"| {result}" in capsys.readouterr().out


def test_a_row_without_patch_or_with_a_failing_test_is_told(
    small_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not sabotage(small_tree, frozenset(), thorough=False)
    assert "(no patch)" in capsys.readouterr().out
    patched(small_tree, "no_cap", PATCH.format(3, 99))
    (small_tree / "services/p.py").write_text(PRODUCT.replace("n = 3", "n = 4"))
    assert not sabotage(small_tree, frozenset(), thorough=False)
    assert "FAILS" in capsys.readouterr().out


def test_a_mark_outside_the_catalogue_is_refused(small_tree: Path) -> None:
    (small_tree / "tests/test_p.py").write_text("import pytest\n@pytest.mark.fault(91)\ndef test_x(): ...\n")
    scratch_folder = small_tree.parent / "scratch"
    run = Scratch(small_tree, scratch_folder).run(91, [Path("tests/test_p.py")], thorough=True)
    assert run.exit_code == 4
    assert "fault() takes rows of the fault catalogue, 1 to 90" in run.output


def test_a_copy_that_would_import_another_tree_is_noticed(small_tree: Path) -> None:
    scratch = Scratch(small_tree, small_tree.parent / "scratch")
    assert scratch.foreign_module() is None
    (scratch.folder / "services/__init__.py").unlink()
    (scratch.folder / "services/p.py").unlink()
    (scratch.folder / "services").rmdir()
    assert "services" in (scratch.foreign_module() or "")
