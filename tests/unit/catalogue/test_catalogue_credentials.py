"""A key is read from where the catalogue says; an absent one is told by its source, and none is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.catalogue.credentials import read_api_key
from services.catalogue.values import UpstreamKind, UpstreamSpec
from services.chassis.errors import FailedPrecondition, Reason


def upstream(env: str = "", file: Path | None = None) -> UpstreamSpec:
    return UpstreamSpec("u", UpstreamKind.OPENAI, "https://h", api_key_env=env, api_key_file=file)


def test_from_a_variable_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    assert read_api_key(upstream(env="K"), {"K": " from-env "}) == "from-env"
    assert read_api_key(upstream(file=tmp_path / "key"), {}) == "from-file"


def test_none_is_needed_where_none_is_named() -> None:
    assert read_api_key(upstream(), {"OPENAI_API_KEY": "x"}) is None


def test_an_absent_key_is_told_by_its_source(tmp_path: Path) -> None:
    for named, told in ((upstream(env="K"), "K"), (upstream(file=tmp_path / "absent"), "key file")):
        with pytest.raises(FailedPrecondition, match=told) as failed:
            read_api_key(named, {})
        assert failed.value.reason is Reason.UPSTREAM_UNAUTHENTICATED


def test_a_file_that_is_not_text_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"hunter2\xff")
    with pytest.raises(FailedPrecondition) as failed:
        read_api_key(upstream(file=tmp_path / "key"), {})
    assert "hunter2" not in str(failed.value)
    assert failed.value.__cause__ is None
