"""BERT's forward pass in float64 with numpy, written from the paper; the oracle of the embedder's numbers.

Reads the weights from the file that the embedder runs, by the names of the published checkpoint, and shares no code
with what it judges.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from tokenizers import Tokenizer

Array = NDArray[np.float64]

LAYERS, HEADS, HIDDEN, EPSILON = 6, 12, 384, 1e-12
CLS, SEP, ROOM, EDGE = 101, 102, 254, 24

_erf = np.frompyfunc(math.erf, 1, 1)


class Reference:
    """Texts one by one, window by window, without padding or mask."""

    def __init__(self, folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        self._weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def ids(self, text: str) -> list[int]:
        """The text's pieces without special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def embed(self, text: str) -> Array:
        """The text's unit vector: one window, or body and edges."""
        ids = self.ids(text)
        if len(ids) <= ROOM:
            return self._window(ids)
        count = math.ceil(len(ids) / ROOM)
        starts = [number * (len(ids) - ROOM) // (count - 1) for number in range(count)]
        body = sum((self._window(ids[start : start + ROOM]) for start in starts), np.zeros(HIDDEN))
        return _unit(_unit(body) + self._window(ids[:EDGE]) + self._window(ids[-EDGE:]))

    def _window(self, ids: list[int]) -> Array:
        framed = [CLS, *ids, SEP]
        states = self._weights["embeddings.word_embeddings.weight"][framed]
        states = self._norm("embeddings.LayerNorm", states + self._weights["position_and_type"][: len(framed)])
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            attended = self._dense(f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", states))
            states = self._norm(f"{name}.attention.output.LayerNorm", states + attended)
            inner = self._dense(f"{name}.intermediate.dense", states)
            inner = inner * 0.5 * (1 + np.asarray(_erf(inner / math.sqrt(2)), np.float64))
            states = self._norm(f"{name}.output.LayerNorm", states + self._dense(f"{name}.output.dense", inner))
        return _unit(states.mean(axis=0))

    def _attention(self, name: str, states: Array) -> Array:
        def heads(part: str) -> Array:
            return self._dense(f"{name}.{part}", states).reshape(len(states), HEADS, -1).swapaxes(0, 1)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.swapaxes(1, 2) / math.sqrt(HIDDEN // HEADS)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ value
        return np.asarray(mixed.swapaxes(0, 1).reshape(len(states), HIDDEN))

    def _dense(self, name: str, states: Array) -> Array:
        return np.asarray(states @ self._weights[f"{name}.matrix"] + self._weights[f"{name}.bias"])

    def _norm(self, name: str, states: Array) -> Array:
        centred = states - states.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        return np.asarray(scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"])


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))
