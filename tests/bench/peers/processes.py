"""The processes of the comparison: the upstream, our suite, and LiteLLM's proxy without and with its cache."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.suite_process import SuiteProcess, environment, free_ports

KEY = "sk-bench-0123456789abcdef0123456789abcdef"
MODELS = ("burst", "paced", "late")
START_SECONDS = 180.0
"""LiteLLM imports for half a minute on a busy machine."""

CATALOGUE_HEAD = """
include_default = false

[upstreams.fake]
kind = "openai"
base_url = "{base_url}"
"""
CATALOGUE_MODEL = """
[models.{name}]
upstream = "fake"
context_tokens = 100_000
max_output_tokens = 4_096
capabilities = ["streaming"]
prices = {{ input = "1", output = "10", date = 2026-01-01 }}
latency = {{ first_token_seconds = 0.1, tokens_per_second = 50 }}
quality = {{ tier = "moderate" }}
"""

LITELLM_MODEL = """
  - model_name: {name}
    litellm_params:
      model: openai/{name}
      api_base: {base_url}
      api_key: sk-upstream
"""
LITELLM_SETTINGS = """
general_settings:
  master_key: {key}
litellm_settings:
  telemetry: false
"""
LITELLM_CACHE = """
  cache: true
  cache_params:
    type: local
"""


@contextmanager
def upstream() -> Iterator[str]:
    """The base URL of the models' server."""
    command = [sys.executable, "-m", "tests.bench.peers.upstream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://{process.stdout.readline().strip()}/v1"
        finally:
            process.terminate()


@contextmanager
def antiphon(folder: Path, base_url: str) -> Iterator[SuiteProcess]:
    """Our suite, as `make run` starts it, with the models of the upstream."""
    folder.mkdir()
    catalogue = folder / "catalogue.toml"
    models = "".join(CATALOGUE_MODEL.format(name=name) for name in MODELS)
    catalogue.write_text(CATALOGUE_HEAD.format(base_url=base_url) + models)
    suite = SuiteProcess(environment(folder / "state", ANTIPHON_CATALOGUE=str(catalogue)))
    try:
        suite.wait_for("SERVING")
        yield suite
    finally:
        suite.close()


@dataclass(frozen=True, slots=True)
class Proxy:
    """A LiteLLM that runs."""

    url: str
    pid: int


@contextmanager
def litellm(executable: Path, folder: Path, base_url: str, *, cache: bool) -> Iterator[Proxy]:
    """LiteLLM's proxy with one worker, as its documentation starts it."""
    folder.mkdir()
    config = folder / "config.yaml"
    models = "".join(LITELLM_MODEL.format(name=name, base_url=base_url) for name in MODELS)
    config.write_text(f"model_list:{models}{LITELLM_SETTINGS.format(key=KEY)}{LITELLM_CACHE if cache else ''}")
    (port,) = free_ports(1)
    # Its list of prices comes from the network otherwise.
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    command = [
        str(executable),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "log")
        yield Proxy(f"http://127.0.0.1:{port}/v1", process.pid)
    finally:
        for part in reversed(family(process.pid)):
            psutil.Process(part).terminate()
        process.wait(30)


def family(pid: int) -> list[int]:
    """A process and all below it."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"LiteLLM does not start:\n{log.read_text(errors='replace')[-2000:]}")
