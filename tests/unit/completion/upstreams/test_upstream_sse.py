"""Event streams as they come off the wire, however the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.completion.upstreams.sse import LineTooLongError, SseDecoder


def decoded(*pieces: bytes, **limits: int) -> list[bytes]:
    decoder = SseDecoder(**limits)
    return [payload for piece in pieces for payload in decoder.feed(piece)] + decoder.flush()


payloads = st.lists(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1).map(str.encode),
    max_size=6,
)


@given(payloads, st.sampled_from([b"\n", b"\r\n"]), st.data())
def test_payloads_survive_every_way_of_cutting_the_bytes(
    payloads: list[bytes], end: bytes, data: st.DataObject
) -> None:
    noise = st.sampled_from([(b"", b""), (b": note" + end, b"id: 7" + end)])
    wire = b""
    for payload in payloads:
        before, after = data.draw(noise)
        wire += before + b"data: " + payload + end + after + end
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert decoded(*pieces) == payloads


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"data:x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"\xef\xbb\xbfdata: x\n\n", [b"x"]),
        (b"\n\n\n", []),
        (b"event: error\ndata: {}\n\n", [b"{}"]),
        (b"data: x", [b"x"]),
        (b"data: x\n", [b"x"]),
        (b"database: x\n\n", []),
        (b"", []),
    ],
)
def test_the_format_is_followed(wire: bytes, expected: list[bytes]) -> None:
    assert decoded(wire) == expected


def test_a_line_has_a_limit_wherever_it_is_cut() -> None:
    limit = 100
    assert decoded(b"data: " + b"x" * 94 + b"\n\n", max_line_bytes=limit) == [b"x" * 94]
    for wire in (b"data: " + b"x" * 95 + b"\n\n", b"data: " + b"x" * 95, b": " + b"x" * 200):
        with pytest.raises(LineTooLongError):
            decoded(wire, max_line_bytes=limit)
        with pytest.raises(LineTooLongError):
            decoded(*(bytes([byte]) for byte in wire), max_line_bytes=limit)


def test_an_event_of_many_short_lines_has_the_same_limit() -> None:
    with pytest.raises(LineTooLongError):
        decoded(b"data: xxxxxxxxx\n" * 20, max_line_bytes=100)


def test_events_that_came_before_are_not_counted() -> None:
    assert decoded(b"data: xxxxxxxxx\n\n" * 50, max_line_bytes=100) == [b"xxxxxxxxx"] * 50


def test_a_long_line_in_many_pieces_takes_linear_time() -> None:
    searched = 0

    class Counting(bytearray):
        def find(self, sub: bytes, start: int = 0) -> int:  # type: ignore[override]
            nonlocal searched
            searched += len(self) - start
            return super().find(sub, start)

    decoder = SseDecoder()
    decoder._pending = Counting()
    for _ in range(1_000):
        decoder.feed(b"x" * 100)
    assert searched == 100_000
