"""The completion process and its credentials at the start: what it needs, and what it says when that is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.chassis.auth.api_key import new_key
from tests.fakes.credentials import stored, write
from tests.integration.completion.processes import ServiceProcess
from tests.suite_process import environment

Start = Callable[..., ServiceProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[ServiceProcess] = []

    def starter(**variables: str) -> ServiceProcess:
        started.append(ServiceProcess("completion", environment(tmp_path, **variables)))
        return started[-1]

    yield starter
    for process in started:
        process.close()


@pytest.mark.parametrize("content", [None, "not a key"])
def test_with_credentials_it_needs_a_service_key(tmp_path: Path, start: Start, content: str | None) -> None:
    write(tmp_path / "credentials.json", [stored(new_key())])
    if content is not None:
        (tmp_path / "service.key").write_text(content)
    status, said = start().wait()
    assert status == 78
    assert "ANTIPHON_SERVICE_KEY_FILE" in said
    assert "antiphon key create --role service" in said
    assert "not a key" not in said


def test_without_credentials_it_is_not_open_to_the_network(start: Start) -> None:
    status, said = start(ANTIPHON_COMPLETION_LISTEN="0.0.0.0:0").wait()
    assert status == 78
    assert said.splitlines()[-1].startswith(
        "antiphon completion: ANTIPHON_COMPLETION_LISTEN: without credentials a server listens on this machine only"
    )


def test_a_wrong_credentials_file_is_named_and_not_quoted(tmp_path: Path, start: Start) -> None:
    (tmp_path / "keys.json").write_text('{"do-not-quote-me": 1}')
    key = new_key()
    (tmp_path / "service.key").write_text(key.text)
    status, said = start(ANTIPHON_CREDENTIALS_FILE=str(tmp_path / "keys.json")).wait()
    assert status == 78
    assert "ANTIPHON_CREDENTIALS_FILE: " in said
    assert "do-not-quote-me" not in said
    assert key.text[16:] not in said
