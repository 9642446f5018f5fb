"""A catalogue says what may be called; a wrong file is refused with the key at fault and without its content."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.catalogue.catalogue import Catalogue, CatalogueError
from services.catalogue.values import Capability, Tier, UpstreamKind
from services.chassis.errors import InvalidRequest, Reason

KEY = {"OPENAI_API_KEY": "sk-secret"}


def entry(name: str = "m", *, top: str = "", prices: str = "", quality: str = "", tail: str = "") -> str:
    return f"""
[models.{name}]
upstream = "offline"
context_tokens = 1000
max_output_tokens = 100
{top}
[models.{name}.quality]
tier = "moderate"
{quality}
[models.{name}.prices]
input = "0.5"
output = "1.5"
date = 2026-01-01
{prices}
{tail}
"""


def test_without_a_key_only_the_stand_ins_are_offered() -> None:
    catalogue = Catalogue.load(None, {})
    assert [model.name for model in catalogue.models] == ["offline-small", "offline-large"]
    assert all(model.stand_in for model in catalogue.models)
    assert catalogue.get("offline-small").quality.tier is Tier.SIMPLE
    assert catalogue.get("offline-large").quality.tier is Tier.COMPLEX


def test_with_a_key_openai_models_are_offered_and_dated() -> None:
    catalogue = Catalogue.load(None, KEY)
    model = catalogue.get("gpt-4.1-mini")
    assert (model.prices.input, model.prices.cached_input, model.prices.output) == (
        400_000_000,
        100_000_000,
        1_600_000_000,
    )
    assert model.prices.version.startswith(model.prices.date.isoformat())
    assert catalogue.upstream_of(model).kind is UpstreamKind.OPENAI
    assert Catalogue.load(None, {"OPENAI_API_KEY": "  "}).find("gpt-4.1-mini") is None


def test_the_environment_may_move_the_upstream() -> None:
    moved = Catalogue.load(None, {"OPENAI_BASE_URL": "http://127.0.0.1:8000/v1/"})
    assert moved.upstreams["openai"].base_url == "http://127.0.0.1:8000/v1"
    with pytest.raises(CatalogueError) as failed:
        Catalogue.load(None, {"OPENAI_BASE_URL": "ftp://user:hunter2@example.org"})
    assert failed.value.key == "upstreams.openai.base_url_env"
    assert "hunter2" not in str(failed.value)


def test_a_file_adds_to_the_packaged_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(entry(top='tokenizer = "tok/tokenizer.json"\naliases = ["fast"]'))
    catalogue = Catalogue.load(file, {})
    assert [model.name for model in catalogue.models] == ["offline-small", "offline-large", "m"]
    assert catalogue.get("fast") is catalogue.get("m")
    assert catalogue.get("m").tokenizer == tmp_path / "tok" / "tokenizer.json"


def test_an_entry_of_the_same_name_replaces_the_packaged_one_whole() -> None:
    catalogue = Catalogue.parse(entry("offline-small"), {})
    assert catalogue.get("offline-small").context_tokens == 1000
    assert not catalogue.get("offline-small").stand_in


def test_a_file_can_stand_alone() -> None:
    text = 'include_default = false\n[upstreams.offline]\nkind = "offline"\n' + entry()
    assert [model.name for model in Catalogue.parse(text, KEY).models] == ["m"]
    with pytest.raises(CatalogueError, match="none is offered"):
        Catalogue.parse("include_default = false", {})


def test_what_is_left_out_gets_a_safe_default() -> None:
    model = Catalogue.parse(entry(), {}).get("m")
    assert model.prices.cached_input == model.prices.cache_write == model.prices.input
    assert model.prices.per_request == 0
    assert model.capabilities == {Capability.STREAMING}
    assert model.upstream_model == "m"
    assert model.quality.p_correct[Tier.SIMPLE] > model.quality.p_correct[Tier.COMPLEX]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour = 1", "colour"),
        (entry(top="context_token = 3"), "models.m.context_token"),
        (entry(prices='inputs = "1"'), "models.m.prices.inputs"),
        ("[models.m]\nupstraem = 'x'", "models.m.upstraem"),
        ("[models.auto]", "models.auto"),
        ("[models.'a b']", "models.a b"),
        (entry(top='capabilities = ["fly"]'), "models.m.capabilities.0"),
        (entry(top="max_output_token = true"), "models.m.max_output_token"),
        (entry(prices='cached_input = "0.0000000001"'), "models.m.prices.cached_input"),
        (entry(prices='cached_input = "-1"'), "models.m.prices.cached_input"),
        (entry(prices="cached_input = nan"), "models.m.prices.cached_input"),
        (entry(prices="cached_input = true"), "models.m.prices.cached_input"),
        (entry(prices="cached_input = 1000001"), "models.m.prices.cached_input"),
        (entry(quality="p_correct = {simple = 0.5, moderate = 0.6, complex = 0.1}"), "models.m.quality.p_correct"),
        (entry(tail="[models.m.latency]\ntokens_per_second = 0"), "models.m.latency.tokens_per_second"),
        (entry(tail="[models.m.latency]\ntokens_per_second = '5'"), "models.m.latency.tokens_per_second"),
        (entry().replace("= 1000", "= 50"), "models.m"),
        (entry().replace('"offline"', '"nowhere"'), "models.m.upstream"),
        (entry(top='aliases = ["offline-small"]'), "models.m.aliases"),
        ("[upstreams.u]\nkind = 'carrier-pigeon'", "upstreams.u.kind"),
        ("[upstreams.u]\nkind = 'openai'", "upstreams.u"),
        ("[upstreams.u]\nkind = 'openai'\nbase_url = 'https://u:p@h/v1'", "upstreams.u.base_url"),
        ("[upstreams.u]\nkind = 'openai'\nbase_url = 'https://h:99999'", "upstreams.u.base_url"),
        ("[upstreams.u]\nkind = 'openai'\nbase_url = 'file:///etc'", "upstreams.u.base_url"),
        ("[upstreams.u]\nkind = 'offline'\napi_key_env = 'X'", "upstreams.u"),
    ],
)
def test_a_wrong_file_names_the_key(text: str, key: str) -> None:
    with pytest.raises(CatalogueError) as failed:
        Catalogue.parse(text, {})
    assert failed.value.key == key


@pytest.mark.parametrize("text", ['a = "hunter2', "hunter2 hunter2", '[upstreams.u.headers]\nx = "hunter2"\nx = 1'])
def test_a_broken_file_is_not_quoted(text: str) -> None:
    with pytest.raises(CatalogueError, match="not TOML") as failed:
        Catalogue.parse(text, {})
    assert "hunter2" not in str(failed.value)


def test_headers_do_not_show() -> None:
    text = "[upstreams.u]\nkind = 'openai'\nbase_url = 'https://h'\n[upstreams.u.headers]\nx-key = 'hunter2'"
    catalogue = Catalogue.parse(text, {})
    assert catalogue.upstreams["u"].headers == {"x-key": "hunter2"}
    assert "hunter2" not in repr(catalogue)


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        Catalogue.load(tmp_path / "absent.toml", {})


def test_an_unknown_model_names_close_ones() -> None:
    catalogue = Catalogue.load(None, {})
    with pytest.raises(InvalidRequest, match="offline-large") as failed:
        catalogue.get("ofline-large", field="constraints.allowed_models")
    assert failed.value.reason is Reason.UNKNOWN_MODEL
    assert failed.value.field == "constraints.allowed_models"
    with pytest.raises(InvalidRequest) as unlike:
        catalogue.get("sk-live-hunter2")
    assert "hunter2" not in str(unlike.value)


def test_the_version_changes_with_the_content_and_only_with_it() -> None:
    base = Catalogue.parse(entry(), {}).version
    assert Catalogue.parse(entry(), {}).version == base
    assert Catalogue.parse(entry(prices='per_request = "0.001"'), {}).version != base
    assert Catalogue.parse(entry(top='capabilities = ["tools"]'), {}).version != base
    assert Catalogue.load(None, {}).version != Catalogue.load(None, KEY).version
