"""The report is one file that loads nothing, is well formed, and shows what users wrote as text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.cache.report.page import Facts, page
from antiphon_client.cli.cache.report.svg import Column, Mark, bars, columns

HOUR = 1_800_000_000
SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;"


def facts(prompt: str = "How do I reset my password?", **changes: object) -> Facts:
    stats = cache_pb2.GetStatsResponse(
        entries_valid=3,
        start_time=timestamp_pb2.Timestamp(seconds=HOUR),
        lookups=cache_pb2.LookupCounts(exact=5, semantic=3, stale=2, miss=10),
        vetoes={"below_threshold": 5, prompt: 1},
        bypasses={"embedding_timeout": 2},
        similarity_histogram=cache_pb2.SimilarityHistogram(
            bounds=[0, 0.5, 0.9], hits=[0, 0, 0, 7], misses=[0, 3, 4, 0]
        ),
        p_wrong_histogram=cache_pb2.PWrongHistogram(bounds=[0.01, 0.1], hits=[6, 1, 0], misses=[0, 2, 5]),
        latency_histogram=cache_pb2.LatencyHistogram(
            bounds=[duration_pb2.Duration(nanos=500_000), duration_pb2.Duration(seconds=1)],
            outcomes=[cache_pb2.OutcomeLatency(outcome=cache_pb2.OUTCOME_EXACT, counts=[5, 0, 0])],
        ),
        hours=[
            cache_pb2.HourStats(start_time=timestamp_pb2.Timestamp(seconds=HOUR), hits=1, misses=3),
            cache_pb2.HourStats(
                start_time=timestamp_pb2.Timestamp(seconds=HOUR + 2 * 3_600), hits=9, misses=1, cost_saved_nano_usd=5
            ),
        ],
        embedder=prompt,
    )
    served = [cache_pb2.Entry(prompt=prompt, namespace=prompt, model=prompt, hits=1_234)]
    given = {"namespace": "", "address": "cache:1", "at": HOUR + 9_000.0, "thresholds": (("threshold", 0.93),)}
    return Facts(**{**given, "stats": stats, "served": served, **changes})  # type: ignore[arg-type]


class Reader(HTMLParser):
    """Tags, attributes and texts of a page; fails if a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


ALLOWED_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "b", "span", "section"),
    *("table", "tr", "th", "td", "svg", "g", "rect", "line", "text"),
}


@given(st.text(min_size=1, max_size=60) | st.just(EVIL))
def test_what_users_wrote_stays_text_and_nothing_is_loaded(prompt: str) -> None:
    whole = page(facts(prompt, namespace=prompt, address=prompt))
    read = Reader(whole)
    assert read.tags == ALLOWED_TAGS
    assert not {name for name in read.attributes if name.startswith("on") or name in {"href", "src"}}
    if prompt == EVIL:
        assert prompt in read.texts


def test_the_page_itself_names_no_other_place() -> None:
    assert re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page(facts())) == []


def test_every_plot_is_well_formed_and_inside_its_frame() -> None:
    drawn = re.findall(r"<svg.*?</svg>", page(facts()), re.DOTALL)
    assert len(drawn) == 7
    for one in drawn:
        root = ET.fromstring(one)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for rectangle in root.iter(f"{SVG}rect"):
            x, y, wide, high = (float(rectangle.attrib[name]) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= x + wide <= width + 0.01
            assert 0 <= y <= y + high <= height + 0.01


def test_columns_are_as_high_as_their_values_and_marks_lie_between_them() -> None:
    root = ET.fromstring(columns([Column("a", (2.0, 1.0), "t"), Column("b", (0.0, 6.0), "t")], marks=[Mark(1.5, "m")]))
    parts = [one for one in root.iter(f"{SVG}rect") if one.attrib["class"] != "touch"]
    heights = [float(one.attrib["height"]) for one in parts]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.02)
    assert heights[3] == pytest.approx(6 * heights[1], abs=0.06)
    (mark,) = (one for one in root.iter(f"{SVG}line") if one.attrib["class"] == "mark")
    assert float(mark.attrib["x1"]) == pytest.approx(
        float(parts[2].attrib["x"]) + float(parts[2].attrib["width"]) / 2, abs=0.02
    )
    assert ET.fromstring(columns([])).tag == ET.fromstring(bars([])).tag == f"{SVG}svg"


def test_the_figures_are_those_of_the_server() -> None:
    texts = Reader(page(facts())).texts
    assert {"50.0%", "20", "1,234", "threshold 0.930"} <= set(texts)
    assert "10 (50.0%): 5 exact, 3 semantic, 2 stale" in texts
    assert len([text for text in texts if re.fullmatch(r"\d\d \d\d:00", text)]) == 6, "the hour between has none"
    empty = Reader(page(facts(stats=cache_pb2.GetStatsResponse(), served=[], thresholds=())))
    assert "svg" not in empty.tags
    assert "–" in empty.texts
