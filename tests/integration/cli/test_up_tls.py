"""The whole suite with certificates demanded everywhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority, replace
from tests.suite_process import ANTIPHON, GUARD, SERVICES, SuiteProcess, environment


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    ca = Authority()
    cert, key = ca.issue().write(tmp_path, "suite")
    authorities = str(replace(tmp_path / "ca.pem", ca.pem))
    return {
        "ANTIPHON_TLS_CERT_FILE": str(cert),
        "ANTIPHON_TLS_KEY_FILE": str(key),
        "ANTIPHON_TLS_CA_FILE": authorities,
        "ANTIPHON_TLS_CLIENT_CA_FILE": authorities,
    }


@pytest.fixture
def suite(tmp_path: Path, variables: dict[str, str]) -> Iterator[SuiteProcess]:
    running = SuiteProcess(environment(tmp_path / "state", **variables), "--demo")
    yield running
    running.close()


def ask(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(ANTIPHON), "ask", "How do I reset my password?", "--json"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=GUARD, check=False)


def test_the_suite_answers_only_those_who_show_a_certificate(suite: SuiteProcess) -> None:
    said = [suite.wait_for(" · ") for _ in range(4)]
    # Through the cache and the router, which demand certificates from completion too.
    assert [line.split()[0] for line in said] == ["MISS", "EXACT", "SEMANTIC", "MISS"]
    assert "offline-large" in said[-1]
    assert all(suite.running(name).health not in {None, suite.address(name)} for name in SERVICES)

    answered = ask(suite.environ)
    assert answered.returncode == 0, answered.stderr
    assert (
        json.loads(answered.stdout)["info"]["cache"]["outcome"] == "OUTCOME_MISS"
    )  # another namespace than the demo's

    without_certificate = {
        k: v for k, v in suite.environ.items() if k.rpartition("TLS_")[2] not in {"CERT_FILE", "KEY_FILE"}
    }
    plaintext = {k: v for k, v in suite.environ.items() if "_TLS_" not in k}
    for environ in (without_certificate, plaintext):
        assert ask(environ).returncode == 69


def test_a_certificate_without_its_key_stops_everything(tmp_path: Path, variables: dict[str, str]) -> None:
    environ = environment(tmp_path / "state", **{**variables, "ANTIPHON_TLS_KEY_FILE": ""})
    suite = SuiteProcess(environ)
    assert suite.wait() == 78
    assert "ANTIPHON_TLS_KEY_FILE: set both" in suite.errors
