"""One ONNX encoder in memory: token ids in, one vector for each window out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.chassis.errors import FailedPrecondition, Reason, Unavailable

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"  # noqa: S105 -- a tensor's name
SENTENCE_EMBEDDING = "sentence_embedding"
LAST_HIDDEN_STATE = "last_hidden_state"

_ERRORS_ONLY = 3
"""onnxruntime's log severity: its warnings about graphs are for those who wrote them."""


class Pooling(StrEnum):
    """How vectors of pieces become one of the window."""

    GRAPH = "graph"
    """The graph does it: it has an output `sentence_embedding`."""
    MEAN = "mean"
    CLS = "cls"


class EncoderSession:
    """A loaded graph. `run` may be called from any thread, from one at a time."""

    def __init__(self, path: Path, *, threads: int, pooling: Pooling) -> None:
        """Load `path`; a graph that is no sentence encoder is `FailedPrecondition`."""
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), _options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise _unfit(f"{path} cannot be loaded by onnxruntime") from error
        self._pooling = pooling
        self._inputs = {value.name for value in self._session.get_inputs()}
        if not {INPUT_IDS, ATTENTION_MASK} <= self._inputs <= {INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS}:
            raise _unfit(f"{path} has inputs other than {INPUT_IDS}, {ATTENTION_MASK} and {TOKEN_TYPE_IDS}")
        self._output = SENTENCE_EMBEDDING if pooling is Pooling.GRAPH else LAST_HIDDEN_STATE
        if self._output not in {value.name for value in self._session.get_outputs()}:
            raise _unfit(f"{path} has no output {self._output}")

    def run(self, windows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """`(len(windows), dim)`: one pass over windows of ids, padded to the longest. Failure is `Unavailable`."""
        width = max(len(window) for window in windows)
        ids = np.zeros((len(windows), width), np.int64)
        mask = np.zeros_like(ids)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = window
            mask[row, : len(window)] = 1
        feed = {INPUT_IDS: ids, ATTENTION_MASK: mask}
        if TOKEN_TYPE_IDS in self._inputs:
            feed[TOKEN_TYPE_IDS] = np.zeros_like(ids)
        try:
            (output,) = self._session.run([self._output], feed)
        except Exception as error:
            raise Unavailable("the encoder's forward pass failed", reason=Reason.EMBEDDER_UNAVAILABLE) from error
        return self._pooled(np.asarray(output, np.float32), mask)

    def _pooled(self, output: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        match self._pooling:
            case Pooling.GRAPH:
                return output
            case Pooling.CLS:
                return np.ascontiguousarray(output[:, 0])
            case Pooling.MEAN:
                weights = mask[:, :, None].astype(np.float32)
                return np.asarray((output * weights).sum(axis=1) / weights.sum(axis=1), np.float32)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Plans of memory are kept for each shape, and texts come in every shape.
    options.enable_mem_pattern = False
    # Idle worker threads sleep instead of burning the cores that the rest of the process needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _unfit(problem: str) -> FailedPrecondition:
    return FailedPrecondition(problem, reason=Reason.EMBEDDER_MISMATCH)
