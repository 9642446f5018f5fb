"""`make bench-sentences`: how many fixtures have all their sentences right, by topic; JSON on the last line."""

from __future__ import annotations

import json
from collections import defaultdict

from tests.unit.client.sentence_fixtures import Fixture, naive, read, segmented, stripped


def main() -> None:
    """Print what the segmenter and the naive buffer get right, white space aside."""
    topics: defaultdict[str, list[Fixture]] = defaultdict(list)
    for fixture in read():
        topics[fixture.topic].append(fixture)
    total = {"texts": 0, "segmenter": 0, "naive": 0}
    print(f"{'topic':<66}{'texts':>6}{'segmenter':>11}{'naive':>7}")
    for topic, fixtures in topics.items():
        right = {
            "texts": len(fixtures),
            "segmenter": sum(stripped(segmented(f.text)) == stripped(f.sentences) for f in fixtures),
            "naive": sum(stripped(naive(f.text)) == stripped(f.sentences) for f in fixtures),
        }
        print(f"{topic:<66}{right['texts']:>6}{right['segmenter']:>11}{right['naive']:>7}")
        total = {name: total[name] + right[name] for name in total}
    print(json.dumps(total))


if __name__ == "__main__":
    main()
