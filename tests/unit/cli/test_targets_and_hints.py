"""Where commands find a service and its key, and what they say when a call fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import grpc
import pytest

from antiphon_client import CompletionClient
from antiphon_client.cli import exits
from antiphon_client.cli.calls import OPERATOR, report
from antiphon_client.cli.connect import Connection, api_key, tls
from antiphon_client.cli.hints import next_step
from antiphon_client.cli.targets import CACHE, COMPLETION, SettingError, Settings
from antiphon_client.errors import (
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)

HERE = "127.0.0.1:7100"


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, "127.0.0.1:7100"),
        ({"ANTIPHON_COMPLETION_LISTEN": "127.0.0.1:9"}, "127.0.0.1:9"),
        ({"ANTIPHON_COMPLETION_LISTEN": "0.0.0.0:9"}, "127.0.0.1:9"),
        ({"ANTIPHON_COMPLETION_LISTEN": "[::]:9"}, "[::1]:9"),
        ({"ANTIPHON_COMPLETION_LISTEN": "127.0.0.1:9", "ANTIPHON_COMPLETION_TARGET": "dns:///far:1"}, "dns:///far:1"),
        ({"ANTIPHON_COMPLETION_TARGET": ""}, "127.0.0.1:7100"),
    ],
)
def test_a_service_is_where_its_settings_say(environ: dict[str, str], address: str) -> None:
    assert Settings(environ).target(COMPLETION) == address


def test_settings_come_from_the_file_too_and_the_environment_wins(tmp_path: Path) -> None:
    config = tmp_path / "antiphon.toml"
    config.write_text('[suite]\ncompletion_listen = "127.0.0.1:1"\ncache_target = "far:2"\n')
    environ = {"ANTIPHON_CONFIG": str(config)}
    assert Settings(environ).target(COMPLETION) == "127.0.0.1:1"
    assert Settings(environ).target(CACHE) == "far:2"
    assert Settings({**environ, "ANTIPHON_CACHE_TARGET": "near:3"}).target(CACHE) == "near:3"
    with pytest.raises(SettingError, match=r"ANTIPHON_CONFIG.*FileNotFoundError"):
        Settings({"ANTIPHON_CONFIG": str(tmp_path / "absent.toml")})
    config.write_text("[suite")
    with pytest.raises(SettingError, match=r"ANTIPHON_CONFIG.*TOML"):
        Settings(environ)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ANTIPHON_CACHE_TARGTE", "ANTIPHON_CACHE_TARGET"),
        ("ANTIPHON_COMPLETION_TARGETS", "ANTIPHON_COMPLETION_TARGET"),
        ("ANTIPHON_APIKEY", "ANTIPHON_API_KEY"),
        ("ANTIPHON_TLS_CA_FLIE", "ANTIPHON_TLS_CA_FILE"),
        ("ANTIPHON_STATEDIR", "ANTIPHON_STATE_DIR"),
    ],
)
def test_a_mistyped_variable_is_told_from_the_one_that_was_meant(typed: str, meant: str) -> None:
    with pytest.raises(SettingError, match=f"{typed}: is no setting; {meant} is") as caught:
        Settings({typed: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_no_setting_of_the_suite_is_taken_for_a_mistyped_one() -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(ANTIPHON_[A-Z_]+)`", readme))
    assert len(documented) > 50
    assert Settings(dict.fromkeys(documented, "")).get("ANTIPHON_CACHE_TARGET") == ""


@pytest.mark.parametrize("listen", ["28100", ":28100", "localhost", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1"])
def test_what_is_no_address_to_listen_on_is_named_before_a_call(listen: str) -> None:
    with pytest.raises(SettingError, match=r"ANTIPHON_COMPLETION_LISTEN: must be host:port"):
        Settings({"ANTIPHON_COMPLETION_LISTEN": listen}).target(COMPLETION)


@pytest.mark.parametrize("target", ["http://127.0.0.1:7100", "HTTPS://cache:7101", "7100", "cache"])
def test_what_is_no_target_is_named_before_a_call(target: str) -> None:
    with pytest.raises(SettingError, match=r"ANTIPHON_COMPLETION_TARGET: must be host:port"):
        Settings({"ANTIPHON_COMPLETION_TARGET": target}).target(COMPLETION)
    with pytest.raises(ValueError, match=r"target: must be host:port"):
        CompletionClient(target)


@pytest.mark.parametrize("target", ["127.0.0.1:1", "[::1]:1", "dns:///cache:7101", "unix:/tmp/socket", "cache:7101"])
def test_other_targets_are_taken(target: str) -> None:
    assert Settings({"ANTIPHON_COMPLETION_TARGET": target}).target(COMPLETION) == target
    with CompletionClient(target):
        pass


def test_a_field_is_explained_once(capsys: pytest.CaptureFixture[str]) -> None:
    message = "prompt: prompt or messages is required"
    report(InvalidArgumentError(message, reason="MISSING_FIELD", fields={"prompt": message}), HERE)
    assert capsys.readouterr().err == f"error: {message} (MISSING_FIELD)\n"
    report(InvalidArgumentError("two fields", reason="INVALID_FIELD", fields={"model": "is too long"}), HERE)
    assert "\n  model: is too long\n" in capsys.readouterr().err


def test_a_free_port_stands_in_the_run_file(tmp_path: Path) -> None:
    environ = {"ANTIPHON_STATE_DIR": str(tmp_path), "ANTIPHON_CACHE_LISTEN": "127.0.0.1:0"}
    with pytest.raises(SettingError, match=r"ANTIPHON_CACHE_LISTEN.*antiphon up"):
        Settings(environ).target(CACHE)
    run = tmp_path / "run"
    run.mkdir()
    for content in ("", "[]", '{"address": null}', "{}"):
        (run / "cache.json").write_text(content)
        with pytest.raises(SettingError, match="ANTIPHON_CACHE_LISTEN"):
            Settings(environ).target(CACHE)
    (run / "cache.json").write_text(json.dumps({"pid": 1, "address": "127.0.0.1:4711"}))
    assert Settings(environ).target(CACHE) == "127.0.0.1:4711"


def test_the_key_comes_from_the_environment_else_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("ap_file_secret\n")
    assert api_key(Settings({})) is None
    assert api_key(Settings({"ANTIPHON_API_KEY_FILE": str(file)})) == "ap_file_secret"
    assert api_key(Settings({"ANTIPHON_API_KEY_FILE": str(file), "ANTIPHON_API_KEY": " ap_env "})) == "ap_env"


@pytest.mark.parametrize("content", [None, b"", b" \n", "ap_schlüssel".encode(), b"two words", b"\xff"])
def test_a_key_file_that_is_wrong_is_named_and_not_shown(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingError, match="ANTIPHON_API_KEY_FILE") as caught:
        api_key(Settings({"ANTIPHON_API_KEY_FILE": str(file)}))
    assert "schlüssel" not in str(caught.value)


def test_a_key_with_its_scheme_before_it_is_told_apart() -> None:
    with pytest.raises(SettingError, match=r"ANTIPHON_API_KEY: give the key alone") as caught:
        api_key(Settings({"ANTIPHON_API_KEY": "Bearer ap_env_secret"}))
    assert "secret" not in str(caught.value)


def test_certificates_are_files_that_settings_name(tmp_path: Path) -> None:
    assert tls(Settings({})) is None
    ca = {"ANTIPHON_TLS_CA_FILE": str(tmp_path / "absent.pem")}
    assert tls(Settings(ca)) is not None
    with pytest.raises(SettingError, match="ANTIPHON_TLS_KEY_FILE"):
        tls(Settings({**ca, "ANTIPHON_TLS_CERT_FILE": "cert.pem"}))
    with pytest.raises(SettingError, match="ANTIPHON_TLS_CERT_FILE"):
        tls(Settings({"ANTIPHON_TLS_KEY_FILE": "key.pem"}))


async def test_a_file_of_certificates_that_is_wrong_is_named_by_its_setting(tmp_path: Path) -> None:
    connection = Connection.to(CACHE, Settings({"ANTIPHON_TLS_CA_FILE": str(tmp_path / "absent.pem")}))
    with pytest.raises(SettingError, match="ANTIPHON_TLS_CA_FILE: "):
        connection.cache()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnavailableError("Connection refused (check whether it speaks TLS)"), ["antiphon up"]),
        (
            UnauthenticatedError("no credential", reason="MISSING_CREDENTIAL"),
            ["ANTIPHON_API_KEY", "antiphon key create"],
        ),
        (UnauthenticatedError("not a key", reason="INVALID_CREDENTIAL"), ["ANTIPHON_API_KEY", "antiphon key list"]),
        (UnauthenticatedError("too old", reason="EXPIRED_CREDENTIAL"), ["antiphon key create"]),
        (
            PermissionDeniedError("no", reason="METHOD_NOT_ALLOWED"),
            ["`operator`", "--role operator", "ANTIPHON_API_KEY"],
        ),
        (ResourceExhaustedError("slow down", reason="RATE_LIMITED", retry_after=12.2), ["in 13 seconds"]),
        (UnavailableError("store", reason="STORE_UNAVAILABLE", retry_after=0.5), ["in a second"]),
        (
            UnavailableError("Ssl handshake failed (TSI_PROTOCOL_FAILURE): CERTIFICATE_VERIFY_FAILED"),
            ["ANTIPHON_TLS_CA_FILE", "ANTIPHON_TLS_CERT_FILE", "ANTIPHON_TLS_KEY_FILE"],
        ),
        (UnavailableError("Trying to connect an http1.x server"), ["port"]),
        (UnavailableError("Socket closed"), ["port", "ANTIPHON_TLS_CA_FILE", "ANTIPHON_TLS_CERT_FILE"]),
        (InternalError("Method not found!", code=grpc.StatusCode.UNIMPLEMENTED), ["port", HERE]),
    ],
)
def test_an_error_says_what_to_do_next(error: Exception, words: list[str]) -> None:
    hint = next_step(error, address=HERE, role=OPERATOR)
    for word in words:
        assert word in hint


def test_every_exit_code_is_in_the_help_and_in_the_readme() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    for code, meaning in exits.MEANINGS.items():
        assert f"{code:<4} {meaning}" in exits.table()
        assert f"| {code} | {meaning} |" in readme
