"""Settings come from the environment, then the file, then defaults; whatever is wrong is named and never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.chassis.settings import ServiceSettings, SettingsError, SuiteSettings, document, env, load

SECRET = "s3cr3t-value"


class VectorSettings(ServiceSettings):
    """A group like the embedding settings of two services."""

    threads: int = Field(default=1, ge=1, le=64, description="Threads.")
    model_dir: Path | None = Field(default=None, description="Folder.", json_schema_extra=env("ANTIPHON_MODEL_DIR"))


class PlainGroup(BaseModel):
    """A group need not derive from our base."""

    model_config = ConfigDict(extra="forbid")
    pace: float = Field(default=0.0, ge=0, description="Seconds per word.")


class ProbeSettings(SuiteSettings):
    """What the tests load as the service `cache`."""

    ttl: float = Field(default=86_400.0, gt=0, description="Seconds.")
    mode: Literal["fast", "safe"] = Field(default="safe", description="Mode.")
    names: tuple[str, ...] = Field(default=("a", "b"), description="Names.")
    weights: dict[str, float] = Field(default_factory=dict, description="Weights.")
    quoting: str = Field(default="", description="Its validator quotes what it was given.")
    low: int = Field(default=0, description="Must not be above high.")
    high: int = Field(default=10, description="Must not be below low.")
    embedding: VectorSettings = Field(default_factory=VectorSettings, description="Vectors.")
    offline: PlainGroup = Field(default_factory=PlainGroup, description="Stand-in.")

    @field_validator("quoting")
    @classmethod
    def _quote(cls, value: str) -> str:
        if value:
            raise ValueError(f"{value} is not good enough")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> ProbeSettings:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


def loaded(**variables: str) -> ProbeSettings:
    return load(ProbeSettings, service="cache", environ=variables)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        file = tmp_path / "antiphon.toml"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


def test_everything_has_a_default_that_works() -> None:
    settings = loaded()
    assert settings.state_dir == Path(".antiphon")
    assert settings.ttl == 86_400.0
    assert settings.embedding.threads == 1
    assert settings.target("cache") == "127.0.0.1:7101"


def test_variables_set_fields_of_the_suite_the_service_and_its_groups() -> None:
    settings = loaded(
        ANTIPHON_STATE_DIR="~/state",
        ANTIPHON_REFLECTION="false",
        ANTIPHON_CACHE_LISTEN="0.0.0.0:9000",
        ANTIPHON_CACHE_TTL="60",
        ANTIPHON_CACHE_NAMES="x, y ,z",
        ANTIPHON_CACHE_WEIGHTS='{"a": 0.5}',
        ANTIPHON_EMBEDDING_THREADS="4",
        ANTIPHON_MODEL_DIR="/models",
        ANTIPHON_OFFLINE_PACE="0.02",
    )
    assert settings.state_dir == Path.home() / "state"
    assert settings.reflection is False
    assert settings.target("cache") == "127.0.0.1:9000"
    assert settings.ttl == 60.0
    assert settings.names == ("x", "y", "z")
    assert settings.weights == {"a": 0.5}
    assert (settings.embedding.threads, settings.embedding.model_dir) == (4, Path("/models"))
    assert settings.offline.pace == 0.02


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(config: Any) -> None:
    file = config(
        "[suite]\nlog_level = 'debug'\n[cache]\nttl = 5\nnames = ['f']\n[embedding]\nthreads = 3\n[router]\nx = 1\n"
    )
    settings = loaded(ANTIPHON_CONFIG=file, ANTIPHON_CACHE_TTL="7")
    assert (settings.ttl, settings.names, settings.log_level, settings.embedding.threads) == (7.0, ("f",), "debug", 3)
    assert settings.mode == "safe"


def test_an_empty_variable_is_an_unset_one(config: Any) -> None:
    assert loaded(ANTIPHON_CACHE_TTL="", ANTIPHON_CONFIG="").ttl == 86_400.0
    assert loaded(ANTIPHON_CACHE_TTL="", ANTIPHON_CONFIG=config("[cache]\nttl = 5\n")).ttl == 5.0


def test_variables_of_other_processes_and_programs_are_not_ours_to_judge() -> None:
    loaded(
        ANTIPHON_ROUTER_POLICY="x",
        ANTIPHON_EDGESTORE_LISTEN="x",
        ANTIPHON_TEST_QDRANT_URL="x",
        ANTIPHON_PARENT_PIPE_FD="3",
        PATH="x",
        CACHE_TTL="x",
    )


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANTIPHON_CACHE_TTL", SECRET),
        ("ANTIPHON_CACHE_TTL", "-1"),
        ("ANTIPHON_CACHE_TTL", "nan"),
        ("ANTIPHON_CACHE_TTL", "inf"),
        ("ANTIPHON_CACHE_MODE", SECRET),
        ("ANTIPHON_CACHE_QUOTING", SECRET),
        ("ANTIPHON_CACHE_WEIGHTS", SECRET),
        ("ANTIPHON_CACHE_WEIGHTS", f'{{"a": "{SECRET}"}}'),
        ("ANTIPHON_EMBEDDING_THREADS", SECRET),
        ("ANTIPHON_QDRANT_URL", f"https://user:{SECRET}@host:6334"),
        ("ANTIPHON_CACHE_LISTEN", SECRET),
        ("ANTIPHON_CACHE_LISTEN", "localhost:65536"),
        ("ANTIPHON_ROUTER_TARGET", "http://router:7102"),
        ("ANTIPHON_METRICS_LISTEN", SECRET),
        ("ANTIPHON_CACHE_TLT", SECRET),
        ("ANTIPHON_EMBEDDING_THREAD", SECRET),
        ("ANTIPHON_STATEDIR", SECRET),
        ("ANTIPHON_QDRANT_API_KEY", SECRET),
        ("ANTIPHON_CONFIG", f"/nowhere/{SECRET}"),
    ],
)
def test_a_wrong_or_unknown_variable_is_named_and_its_value_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as error:
        loaded(**{name: value})
    assert error.value.key == name
    assert str(error.value).startswith(f"{name}: ")
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"[cache]\nttl = '{SECRET}'\n", "[cache] ttl"),
        (f"[cache]\nquoting = '{SECRET}'\n", "[cache] quoting"),
        (f"[cache]\nnames = [['{SECRET}']]\n", "[cache] names"),
        (f"[cache]\ntlt = '{SECRET}'\n", "[cache] tlt"),
        ("[embedding]\nthreads = 0\n", "[embedding] threads"),
        ("[suite]\nttl = 5\n", "[suite] ttl"),
        ("[cash]\nttl = 5\n", "[cash]"),
        (f"ttl = '{SECRET}'\n", "ttl"),
        (f"[cache]\nttl = {SECRET}\n", "ANTIPHON_CONFIG"),
    ],
)
def test_a_wrong_or_unknown_key_of_the_file_is_named(config: Any, text: str, key: str) -> None:
    with pytest.raises(SettingsError) as error:
        loaded(ANTIPHON_CONFIG=config(text))
    assert error.value.key == key
    assert SECRET not in str(error.value)


def test_a_rule_over_several_settings_is_reported() -> None:
    with pytest.raises(SettingsError, match="low must not be above high"):
        loaded(ANTIPHON_CACHE_LOW="11")


@pytest.mark.fault(65)
@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=12))
def test_no_value_whatsoever_is_shown(value: str) -> None:
    for name in ("ANTIPHON_CACHE_MODE", "ANTIPHON_CACHE_QUOTING", "ANTIPHON_CACHE_WEIGHTS", "ANTIPHON_CACHE_LISTEN"):
        try:
            loaded(**{name: value})
        except SettingsError as error:
            assert error.key == name
            assert value not in str(error)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        loaded().ttl = 1.0


def test_every_setting_is_documented() -> None:
    rows = {row.env: row for row in document(ProbeSettings, "cache")}
    assert rows["ANTIPHON_CACHE_TTL"].default == "86400"
    assert rows["ANTIPHON_CACHE_TTL"].toml == "[cache] ttl"
    assert rows["ANTIPHON_CACHE_NAMES"].default == "a,b"
    assert rows["ANTIPHON_REFLECTION"].default == "true"
    assert rows["ANTIPHON_REFLECTION"].toml == "[suite] reflection"
    assert rows["ANTIPHON_MODEL_DIR"].toml == "[embedding] model_dir"
    assert rows["ANTIPHON_QDRANT_URL"].default == ""
    assert all(row.description for row in rows.values())
    assert all(name in SuiteSettings.model_fields for name in ("cache_listen", "router_listen", "completion_listen"))


@given(st.sampled_from(document(ProbeSettings, "cache")))
def test_a_documented_default_can_be_given_explicitly(row: Any) -> None:
    if row.default and row.env != "ANTIPHON_CACHE_WEIGHTS":
        assert loaded(**{row.env: row.default}) == loaded()
