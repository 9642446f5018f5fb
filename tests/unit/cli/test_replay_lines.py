"""What `antiphon replay` takes for a request, and what it says about everything else."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon_client.cli.replay.lines import DEFAULT_NAMESPACE, MAX_LINE_BYTES, Line, LineError, read
from antiphon_client.cli.replay.source import SHOWN_ERRORS, InputError, Source

GOOD = b'{"text": "one"}\n'


def problems(content: bytes) -> list[str]:
    return [str(found) for found in read(io.BytesIO(content)) if isinstance(found, LineError)]


def replayed(path: Path | str, **options: int) -> Sequence[Line]:
    with Source(str(path), **options) as source:
        checked = source.check()
        lines = list(source.lines())
    assert checked.requests == len(lines)
    return lines


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"not json", "is not JSON"),
        (b'{"text": "cut', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"9" * 10_000, "is not JSON"),
        (b'["text"]', "is not an object"),
        (b"null", "is not an object"),
        (b"{}", 'has no "text"'),
        (b'{"text": null}', 'has no "text"'),
        (b'{"text": " \\n "}', 'has no "text"'),
        (b'{"text": 1}', '"text" is not a string'),
        (b'{"text": "a", "namespace": 1}', '"namespace" is not a string'),
        (b'{"text": "a", "system": ["b"]}', '"system" is not a string'),
        (b'{"text": "a", "model": {}}', '"model" is not a string'),
        (b'{"text": "\\ud800"}', "half a surrogate pair"),
        (b'{"text": "\xff"}', "is not UTF-8"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(line: bytes, what: str) -> None:
    (problem,) = problems(GOOD + b"\n" + line + b"\n" + GOOD)
    assert problem.startswith("line 3: ")
    assert what in problem


def test_a_line_that_no_server_takes_is_wrong_and_not_held_in_memory() -> None:
    class Endless(io.BytesIO):
        asked = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= MAX_LINE_BYTES + 1
            self.asked += 1
            return b"x" * size

    endless = Endless()
    (found,) = read(endless)
    assert str(found) == "line 1: is longer than 16 MiB"
    assert endless.asked == 1


def test_a_line_may_have_everything_and_more() -> None:
    line = {"id": 7, "text": "Grüße 👋\u2028", "namespace": "n", "system": "Be kind.", "model": "m", "cls": [1]}
    content = b"\xef\xbb\xbf" + json.dumps(line, ensure_ascii=False).encode() + b"\r\n\n  \n" + GOOD.rstrip()
    assert list(read(io.BytesIO(content))) == [
        Line(0, "Grüße 👋\u2028", "n", "Be kind.", "m"),
        Line(1, "one", DEFAULT_NAMESPACE),
    ]


def test_an_absent_namespace_is_the_default_one() -> None:
    content = b'{"text": "a"}\n{"text": "b", "namespace": ""}\n{"text": "c", "namespace": null}\n'
    assert {line.namespace for line in read(io.BytesIO(content))} == {"default"}


def test_a_cut_gzip_file_is_an_error_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    whole = gzip.compress(b"".join(json.dumps({"text": f"{os.urandom(40).hex()}"}).encode() + b"\n" for _ in range(99)))
    path.write_bytes(whole[: len(whole) // 2])
    with Source(str(path)) as source, pytest.raises(InputError, match=r"line \d+: the gzip file ends too early"):
        source.check()


def test_a_damaged_gzip_file_is_an_error_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.jsonl.gz"
    whole = bytearray(gzip.compress(GOOD * 3))
    whole[-6] ^= 0xFF
    path.write_bytes(whole)
    with Source(str(path)) as source, pytest.raises(InputError, match=r"line \d+: cannot be read: CRC check failed"):
        source.check()


def test_the_first_wrong_lines_are_told_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_bytes(b"wrong\n" * (SHOWN_ERRORS + 5))
    with Source(str(path)) as source, pytest.raises(InputError) as caught:
        source.check()
    assert len(caught.value.problems) == SHOWN_ERRORS + 1
    assert caught.value.problems[-1] == "and 5 more"


@pytest.mark.parametrize(("limit", "texts"), [(0, []), (1, ["a"]), (2, ["a", "b"]), (9, ["a", "b", "c"])])
def test_a_limit_takes_lines_from_the_start(tmp_path: Path, limit: int, texts: list[str]) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\n{"text": "c"}\n')
    assert [line.text for line in replayed(path, limit=limit)] == texts


def test_what_lies_beyond_the_limit_is_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(GOOD + b"wrong\n")
    assert len(replayed(path, limit=1)) == 1


def test_an_empty_file_has_no_requests(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    for content in (b"", b"\n\n", gzip.compress(b"")):
        path.write_bytes(content)
        assert replayed(path) == []


@given(
    st.lists(
        st.fixed_dictionaries(
            {"text": st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)},
            optional={"namespace": st.sampled_from(["a", "b"]), "system": st.just("be kind"), "model": st.just("m")},
        ),
        max_size=20,
    ),
    st.booleans(),
    st.booleans(),
)
def test_lines_come_as_they_were_written(lines: list[dict[str, str]], packed: bool, piped: bool) -> None:
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    if packed:
        content = gzip.compress(content)
    read_end, write_end = os.pipe()

    def write() -> None:
        with os.fdopen(write_end, "wb") as file:
            file.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = replayed(f"/dev/fd/{read_end}")
    finally:
        os.close(read_end)
        writer.join()
    assert [(line.index, line.text, line.namespace, line.system, line.model) for line in found] == [
        (i, x["text"], x.get("namespace", "default"), x.get("system", ""), x.get("model", ""))
        for i, x in enumerate(lines)
    ]
