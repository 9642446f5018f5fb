"""`antiphon key`: keys are made, listed and revoked, and nothing is lost when several people do so at once."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.chassis.auth.api_key import key_id_of, new_key
from services.chassis.auth.credentials import parse
from services.chassis.auth.values import Role
from services.chassis.auth.verifier import ApiKeys
from services.chassis.errors import Unauthenticated
from services.cli.key import key
from services.cli.key_file import KeyFile
from tests.fakes.credentials import bearer, stored

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in list(os.environ):
        if name.startswith("ANTIPHON_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ANTIPHON_STATE_DIR", str(tmp_path))

    def command(*arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(key, arguments)
        assert result.exit_code == exit_code, result.output
        return result

    return command


def verifier(path: Path) -> ApiKeys:
    return ApiKeys(parse((path / "credentials.json").read_bytes()))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_key_makes_the_files_for_their_owner_alone(tmp_path: Path, run: Run) -> None:
    result = run("create", "--tenant", "acme", "--role", "client")
    text = result.stdout.strip()
    assert key_id_of(text)
    assert text not in result.stderr
    assert "only now" in result.stderr
    assert "start a running `antiphon up` again" in result.stderr
    assert mode(tmp_path / "credentials.json") == mode(tmp_path / "service.key") == 0o600
    caller = verifier(tmp_path).verify(bearer(text)).caller
    assert (caller.tenant, caller.role) == ("acme", Role.CLIENT)
    service = (tmp_path / "service.key").read_text().strip()
    assert verifier(tmp_path).verify(bearer(service)).caller.role is Role.SERVICE
    for secret in (text, service):
        assert secret[16:] not in (tmp_path / "credentials.json").read_text()
    assert "within a second" in run("create", "--tenant", "acme", "--role", "operator").stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "credentials.json", "credentials.json.lock", "service.key"
    ]  # fmt: skip
    assert (tmp_path / "service.key").read_text().strip() == service


def test_what_is_asked_for_stands_in_the_file_and_in_the_list(tmp_path: Path, run: Run) -> None:
    options = ["--expires-in", "30d", "--requests-per-minute", "60", "--tokens-per-minute", "1000", "--note", "shop"]
    made = json.loads(run("create", "--tenant", "acme", "--role", "client", *options, "--json").stdout)
    identity = verifier(tmp_path).verify(bearer(made["api_key"]))
    assert (identity.requests_per_minute, identity.tokens_per_minute) == (60, 1000)
    listing = run("list", "--json")
    (service, listed) = json.loads(listing.stdout)["keys"]
    assert service["role"] == "service"
    assert {name: made[name] for name in listed} == listed
    assert listed["note"] == "shop"
    days = parse((tmp_path / "credentials.json").read_bytes()).keys[1]
    assert days.expires_at is not None
    assert (days.expires_at - days.created_at).days == 30
    table = run("list").stdout
    assert made["id"] in table
    for shown in (table, listing.stdout):
        assert made["api_key"][16:] not in shown
        assert days.hmac_sha256.hex() not in shown


def test_a_revoked_key_works_no_more_and_stays_in_the_list(tmp_path: Path, run: Run) -> None:
    text = run("create", "--tenant", "acme", "--role", "client").stdout.strip()
    key_id = key_id_of(text) or ""
    assert "is revoked" in run("revoke", key_id).stdout
    with pytest.raises(Unauthenticated):
        verifier(tmp_path).verify(bearer(text))
    first = json.loads(run("list", "--json").stdout)["keys"][1]
    assert first["state"] == "revoked"
    again = json.loads(run("revoke", key_id, "--json").stdout)
    assert again == first
    unknown = run("revoke", text, exit_code=1)
    assert text[16:] not in unknown.output
    service = key_id_of((tmp_path / "service.key").read_text().strip()) or ""
    assert "the services call each other with this key" in run("revoke", service).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tenant", "Acme", "--role", "client"],
        ["--tenant", "", "--role", "client"],
        ["--tenant", "acme", "--role", "king"],
        ["--tenant", "acme", "--role", "client", "--expires-in", "0d"],
        ["--tenant", "acme", "--role", "client", "--expires-in", "99999999w"],
        ["--tenant", "acme", "--role", "client", "--requests-per-minute", "0"],
        ["--tenant", "acme", "--role", "service", "--tokens-per-minute", "5"],
        ["--tenant", "acme", "--role", "client", "--note", "\x1b[2J"],
    ],
)
def test_a_wrong_wish_makes_nothing(tmp_path: Path, run: Run, arguments: list[str]) -> None:
    run("create", *arguments, exit_code=2)
    assert list(tmp_path.iterdir()) == []


def test_without_keys_the_list_says_what_that_means(run: Run) -> None:
    assert "antiphon key create" in run("list").stderr
    assert json.loads(run("list", "--json").stdout)["keys"] == []
    run("revoke", "abcdefghijkl", exit_code=1)


def test_a_wrong_file_is_told_and_left_alone(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "credentials.json"
    path.write_text('{"version": 1')
    for arguments in (["list"], ["create", "--tenant", "acme", "--role", "client"], ["revoke", "abcdefghijkl"]):
        assert "ANTIPHON_CREDENTIALS_FILE" in run(*arguments, exit_code=78).stderr
    assert path.read_text() == '{"version": 1'
    monkeypatch.setenv("ANTIPHON_CREDENTIALS_FILE", str(path / "below a file"))
    run("create", "--tenant", "acme", "--role", "client", exit_code=73)
    monkeypatch.setenv("ANTIPHON_STATE", "x")
    assert "ANTIPHON_STATE" in run("list", exit_code=78).stderr


def test_a_service_key_that_is_there_already_is_kept(tmp_path: Path, run: Run) -> None:
    before = new_key()
    (tmp_path / "service.key").write_text(before.text)
    run("create", "--tenant", "acme", "--role", "client")
    assert (tmp_path / "service.key").read_text() == before.text
    assert verifier(tmp_path).verify(bearer(before)).caller.role is Role.SERVICE


def test_something_else_in_its_place_is_not_overwritten(tmp_path: Path, run: Run) -> None:
    (tmp_path / "service.key").write_text("of another program")
    assert "service.key" in run("create", "--tenant", "acme", "--role", "client", exit_code=78).stderr
    assert (tmp_path / "service.key").read_text() == "of another program"
    assert not (tmp_path / "credentials.json").exists()


def test_a_link_stays_a_link(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, real = tmp_path / "link.json", tmp_path / "elsewhere" / "keys.json"
    link.symlink_to(real)
    monkeypatch.setenv("ANTIPHON_CREDENTIALS_FILE", str(link))
    for _ in range(2):
        run("create", "--tenant", "acme", "--role", "client")
    assert link.is_symlink()
    assert len(parse(real.read_bytes()).keys) == 3


def test_many_editors_at_once_lose_nothing(tmp_path: Path) -> None:
    made = [new_key() for _ in range(16)]
    start = threading.Barrier(len(made))
    failures: list[BaseException] = []

    def edit(number: int) -> None:
        file = KeyFile(tmp_path / "credentials.json", tmp_path / "service.key")
        start.wait()
        try:
            file.add(made[number], stored(made[number]))
            if number % 2:
                file.revoke(made[number].id)
        except BaseException as error:  # noqa: BLE001 -- raised in the test below
            failures.append(error)

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    keys = {each.id: each for each in parse((tmp_path / "credentials.json").read_bytes()).keys}
    assert len(keys) == len(made) + 1
    assert [bool(keys[each.id].revoked_at) for each in made] == [bool(number % 2) for number in range(len(made))]
