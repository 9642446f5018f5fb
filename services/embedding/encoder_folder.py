"""Opens local encoders: the `minilm` that `antiphon model get` placed, or any folder with an ONNX sentence encoder.

A foreign folder has `model.onnx` (or `onnx/model.onnx`) and `tokenizer.json`, as exports for sentence-transformers do.
Its graph either pools by itself (output `sentence_embedding`) or gives `last_hidden_state`; then
`1_Pooling/config.json` says how (mean or first piece). The window is `max_seq_length` of
`sentence_bert_config.json`, at most `max_position_embeddings` of `config.json`. What cannot be honoured is refused,
never guessed: vectors that are a little wrong look like any others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from services.chassis.errors import FailedPrecondition, Reason
from services.embedding import minilm
from services.embedding.onnx_encoder import OnnxEmbedder
from services.embedding.pieces import Pieces
from services.embedding.protocol import MINILM_MIN_SIMILARITY, UNKNOWN_MIN_SIMILARITY, EmbedderIdentity
from services.embedding.session import SENTENCE_EMBEDDING, EncoderSession, Pooling
from services.embedding.settings import EmbeddingSettings
from services.embedding.windows import EDGE_PIECES, WINDOWS_REVISION

DEFAULT_WINDOW = 256
"""Pieces of a window where a folder says nothing."""

_GRAPH_PLACES = ("model.onnx", "onnx/model.onnx")
_PLAIN_MODULES = ("Transformer", "Pooling", "Normalize")
"""Steps of a sentence-transformers pipeline that are computed here when the graph does not pool."""


@dataclass(frozen=True, slots=True)
class _Encoder:
    name: str
    graph: Path
    tokenizer: Path
    pooling: Pooling
    window: int
    content: str
    """Digest of everything but the window that decides what a text's vector is."""
    min_similarity: float


def open_minilm(model_dir: Path, settings: EmbeddingSettings) -> OnnxEmbedder:
    """The default encoder; absent or damaged files are `FailedPrecondition`, which says how to get them."""
    place = minilm.folder(model_dir)
    try:
        minilm.check(place)
    except FileNotFoundError:
        raise _refused(f"the weights of minilm are not in {place}: run `antiphon model get`") from None
    except minilm.DamagedError as error:
        raise _refused(f"{error}: run `antiphon model get`") from error
    window = settings.window_pieces or minilm.WINDOW_PIECES
    if window > minilm.POSITIONS:
        raise _refused(f"minilm reads windows of at most {minilm.POSITIONS} pieces, not {window}")
    # The published weights and the graph's revision, not the built file: another version of `onnx` may write other
    # bytes that compute the same.
    content = _digest(minilm.WEIGHTS_SHA256, str(minilm.GRAPH_REVISION), minilm.sha256(place / minilm.TOKENIZER_FILE))
    graph, tokenizer = place / minilm.MODEL_FILE, place / minilm.TOKENIZER_FILE
    return _open(
        _Encoder(minilm.NAME, graph, tokenizer, Pooling.GRAPH, window, content, MINILM_MIN_SIMILARITY), settings
    )


def open_folder(folder: Path, settings: EmbeddingSettings) -> OnnxEmbedder:
    """Any other encoder; what is missing or unknown is `FailedPrecondition`, which names the file."""
    graph = next((folder / place for place in _GRAPH_PLACES if (folder / place).is_file()), None)
    tokenizer = folder / "tokenizer.json"
    if graph is None or not tokenizer.is_file():
        raise _refused(f"{folder} has no model.onnx (or onnx/model.onnx) with a tokenizer.json")
    outputs, weight_files = _inspect(graph)
    pooling = Pooling.GRAPH if SENTENCE_EMBEDDING in outputs else _pooling(folder)
    content = _digest(*(minilm.sha256(path) for path in (graph, *weight_files, tokenizer)), pooling.value)
    window = _window(folder, settings)
    return _open(
        _Encoder(folder.resolve().name, graph, tokenizer, pooling, window, content, UNKNOWN_MIN_SIMILARITY), settings
    )


def _open(encoder: _Encoder, settings: EmbeddingSettings) -> OnnxEmbedder:
    pieces = Pieces.from_file(encoder.tokenizer, window=encoder.window, max_windows=settings.max_windows)
    session = EncoderSession(encoder.graph, threads=settings.threads, pooling=encoder.pooling)
    # One short pass: the only sure way to learn the length of the vectors.
    dim = int(session.run(pieces.split("a").windows).shape[-1])
    if settings.dim is not None and settings.dim != dim:
        raise _refused(f"{encoder.name} makes vectors of length {dim}, but the setting dim is {settings.dim}")
    revision = _digest(encoder.content, str(encoder.window), str(WINDOWS_REVISION), str(EDGE_PIECES))
    identity = EmbedderIdentity(encoder.name, dim, revision)
    return OnnxEmbedder(identity, session, pieces, default_min_similarity=encoder.min_similarity)


def _inspect(graph: Path) -> tuple[set[str], list[Path]]:
    """Names of the graph's outputs, and the files beside it that hold weights (needed beyond 2 GB)."""
    try:
        model = onnx.load(graph, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise _refused(f"{graph} cannot be read") from error
    places = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    files = [graph.parent / place for place in sorted(places)]
    if absent := [file for file in files if not file.is_file()]:
        raise _refused(f"{graph} needs {absent[0].name} beside it")
    return {output.name for output in model.graph.output}, files


def _pooling(folder: Path) -> Pooling:
    modules = _read_json(folder / "modules.json", default=[])
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules if isinstance(module, dict)]
    if unknown := [kind for kind in kinds if kind not in _PLAIN_MODULES]:
        raise _refused(f"{folder}/modules.json has a step {unknown[0]} that is not in the graph")
    path = folder / "1_Pooling" / "config.json"
    config = _read_json(path, default=None)
    if not isinstance(config, dict):
        raise _refused(f"the graph in {folder} does not pool, and {path} does not say how to")
    prefix = "pooling_mode_"
    modes = {name.removeprefix(prefix) for name, value in config.items() if name.startswith(prefix) and value is True}
    modes = modes or {config.get("pooling_mode")}
    if modes in ({"mean_tokens"}, {"mean"}):
        return Pooling.MEAN
    if modes in ({"cls_token"}, {"cls"}):
        return Pooling.CLS
    raise _refused(f"{path} asks for a pooling other than mean or the first piece")


def _window(folder: Path, settings: EmbeddingSettings) -> int:
    own = _whole_number(_read_json(folder / "sentence_bert_config.json", default={}), "max_seq_length")
    limit = _whole_number(_read_json(folder / "config.json", default={}), "max_position_embeddings")
    window = settings.window_pieces or own or DEFAULT_WINDOW
    if limit is not None and settings.window_pieces is not None and window > limit:
        raise _refused(f"{folder} reads windows of at most {limit} pieces, not {window}")
    return window if limit is None else min(window, limit)


def _whole_number(config: Any, key: str) -> int | None:
    value = config.get(key) if isinstance(config, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _read_json(path: Path, *, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except (OSError, ValueError) as error:
        raise _refused(f"{path} cannot be read") from error


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _refused(problem: str) -> FailedPrecondition:
    return FailedPrecondition(problem, reason=Reason.EMBEDDER_UNAVAILABLE)
