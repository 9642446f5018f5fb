"""In which order lines are sent: within a namespace as they stand, different namespaces at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon_client.cli.replay import schedule
from antiphon_client.cli.replay.lines import Line
from antiphon_client.cli.replay.schedule import in_order


def lines(namespaces: list[str]) -> list[Line]:
    return [Line(index, "text", namespace) for index, namespace in enumerate(namespaces)]


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 4)), max_size=60),
    st.integers(1, 8),
    st.integers(1, 70),
)
async def test_order_is_kept_within_a_namespace_and_nothing_is_lost(
    given_lines: list[tuple[str, int]], concurrency: int, ahead: int
) -> None:
    sent: dict[str, list[int]] = defaultdict(list)
    running: set[str] = set()
    most = 0

    async def send(line: Line) -> None:
        nonlocal most
        assert line.namespace not in running, "two of one namespace at once"
        running.add(line.namespace)
        most = max(most, len(running))
        for _ in range(given_lines[line.index][1]):  # some take longer than others
            await asyncio.sleep(0)
        running.discard(line.namespace)
        sent[line.namespace].append(line.index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "AHEAD_LINES", ahead)
        patch.setattr(schedule, "_CHUNK_LINES", 3)
        await in_order(iter(lines([namespace for namespace, _ in given_lines])), send, concurrency=concurrency)
    assert most <= concurrency
    expected: dict[str, list[int]] = defaultdict(list)
    for index, (namespace, _) in enumerate(given_lines):
        expected[namespace].append(index)
    assert sent == expected


async def test_other_namespaces_do_not_wait_for_a_slow_one() -> None:
    others = asyncio.Event()
    left = 500

    async def send(line: Line) -> None:
        nonlocal left
        if line.namespace == "slow":
            await others.wait()
            return
        left -= 1
        if not left:
            others.set()

    async with asyncio.timeout(30):
        await in_order(iter(lines(["slow"] * 500 + ["other"] * 500)), send, concurrency=2)


async def test_lines_are_not_read_far_ahead() -> None:
    most = 0
    sent = read = 0

    def endless() -> Iterator[Line]:
        nonlocal read, most
        for line in lines(["one"] * 40_000):
            read += 1
            most = max(most, read - sent)
            yield line

    async def send(line: Line) -> None:
        nonlocal sent
        sent += 1

    await in_order(endless(), send, concurrency=4)
    assert sent == 40_000
    assert most <= schedule.AHEAD_LINES + schedule._CHUNK_LINES + 1


async def test_a_failure_ends_everything() -> None:
    ended: list[int] = []

    async def send(line: Line) -> None:
        if line.namespace == "bad":
            raise RuntimeError("defect")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(line.index)

    with pytest.raises(ExceptionGroup) as caught:
        await in_order(iter(lines(["a", "b", "bad", "a"])), send, concurrency=4)
    assert caught.group_contains(RuntimeError)
    assert sorted(ended) == [0, 1]
