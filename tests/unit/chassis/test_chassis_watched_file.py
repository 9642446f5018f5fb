"""A watched file tells each of its contents once, however it is replaced."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.chassis import watched_file
from services.chassis.watched_file import WatchedFile
from tests.fakes.credentials import replace


def test_each_content_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = WatchedFile(path)
    assert isinstance(file.poll(), FileNotFoundError)
    assert file.poll() is None
    path.write_bytes(b"one")
    assert file.poll() == b"one"
    assert file.poll() is None
    replace(path, b"two")
    assert file.poll() == b"two"
    path.unlink()
    assert isinstance(file.poll(), FileNotFoundError)
    assert file.poll() is None
    replace(path, b"two")
    assert file.poll() == b"two"


def test_an_old_file_is_not_read_again_and_a_young_one_is(tmp_path: Path) -> None:
    """Written within the same tick of the clock and of the same length, only its content tells them apart."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    file = WatchedFile(path)
    assert file.poll() == b"one"
    found = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert file.poll() == b"two"


def test_only_regular_files_of_some_size_are_read(tmp_path: Path) -> None:
    assert isinstance(WatchedFile(tmp_path).poll(), OSError)
    os.mkfifo(tmp_path / "pipe")
    assert isinstance(WatchedFile(tmp_path / "pipe").poll(), OSError)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(watched_file.MAX_BYTES + 1)
    assert isinstance(WatchedFile(large).poll(), OSError)


@given(st.lists(st.sampled_from([b"", b"a", b"b", None]), max_size=12))
def test_it_ends_with_what_is_there(contents: list[bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        file = WatchedFile(path)
        told: bytes | OSError | None = None
        for content in contents:
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
            news = file.poll()
            told = told if news is None else news
            assert isinstance(told, FileNotFoundError) if content is None else told == content
