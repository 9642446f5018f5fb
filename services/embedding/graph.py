"""The ONNX graph of a BERT sentence encoder: token ids in, unit sentence vectors out.

Written from the architecture (Devlin et al. 2018; Reimers and Gurevych 2019 for the pooling) with the operators of
opset 17, the first that has LayerNormalization. Tensor names are those of the `transformers` checkpoints. A change
after which the graph computes something else raises `minilm.GRAPH_REVISION`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""The file format that belongs to opset 17, so that every onnxruntime which knows the operators reads the file."""

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
SENTENCE_EMBEDDING = "sentence_embedding"

_LEAST_LENGTH = 1e-12
"""Keeps a zero vector from dividing by zero, as `torch.nn.functional.normalize` does."""

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class BertShape:
    """The numbers of a checkpoint's `config.json` that the graph needs."""

    layers: int
    hidden: int
    heads: int
    layer_norm_epsilon: float


MINILM_L6 = BertShape(layers=6, hidden=384, heads=12, layer_norm_epsilon=1e-12)


def sentence_encoder(weights: Weights, shape: BertShape) -> onnx.ModelProto:
    """The checked model: `input_ids`, `attention_mask` (int64, batch × pieces) → `sentence_embedding` (batch × hidden).

    Exact (erf) GELU, additive attention mask, mean over the unmasked pieces, L2. A missing tensor is a `KeyError`.
    """
    return _Builder(weights, shape).model()


class _Builder:
    def __init__(self, weights: Weights, shape: BertShape) -> None:
        self._weights = weights
        self._shape = shape
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []

    def model(self) -> onnx.ModelProto:
        integers = helper.make_tensor_value_info
        inputs = [integers(name, TensorProto.INT64, ["batch", "pieces"]) for name in (INPUT_IDS, ATTENTION_MASK)]
        outputs = [integers(SENTENCE_EMBEDDING, TensorProto.FLOAT, ["batch", self._shape.hidden])]

        self._shared_constants()
        mask = self._node("Cast", [ATTENTION_MASK], "mask", to=TensorProto.FLOAT)
        bias = self._attention_bias(mask)
        states = self._embeddings()
        for index in range(self._shape.layers):
            states = self._layer(index, states, bias)
        self._pool(states, mask)

        graph = helper.make_graph(self._nodes, "sentence-encoder", inputs, outputs, self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="antiphon"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _shared_constants(self) -> None:
        size = self._shape.hidden // self._shape.heads
        self._constant("split_heads", np.array([0, 0, self._shape.heads, size], np.int64))
        self._constant("join_heads", np.array([0, 0, self._shape.hidden], np.int64))
        self._constant("query_scale", np.float32(1 / math.sqrt(size)))
        self._constant("sqrt_two", np.float32(math.sqrt(2)))
        self._constant("one", np.float32(1))
        self._constant("half", np.float32(0.5))
        self._constant("lowest", np.finfo(np.float32).min)
        self._constant("least_length", np.float32(_LEAST_LENGTH))
        self._constant("axis_0", np.array([0], np.int64))
        self._constant("axis_1", np.array([1], np.int64))
        self._constant("axis_2", np.array([2], np.int64))
        self._constant("axes_1_2", np.array([1, 2], np.int64))

    def _attention_bias(self, mask: str) -> str:
        """0 where a piece may be looked at and the lowest float where not, shaped batch × 1 × 1 × pieces."""
        hidden = self._node("Sub", ["one", mask], "mask_inverse")
        lowest = self._node("Mul", [hidden, "lowest"], "mask_bias")
        return self._node("Unsqueeze", [lowest, "axes_1_2"], "attention_bias")

    def _embeddings(self) -> str:
        words = self._weight("embeddings.word_embeddings.weight")
        # Every piece is of token type 0, so that row is added to the positions once, here.
        position_table = self._constant(
            "position_and_type",
            self._weights["embeddings.position_embeddings.weight"]
            + self._weights["embeddings.token_type_embeddings.weight"][0],
        )
        word = self._node("Gather", [words, INPUT_IDS], "word")
        length = self._node("Shape", [INPUT_IDS], "length", start=1, end=2)
        position = self._node(
            "Slice", [position_table, self._constant("from_0", np.array([0], np.int64)), length, "axis_0"], "position"
        )
        return self._norm("embeddings.LayerNorm", self._node("Add", [word, position], "embedded"))

    def _layer(self, index: int, states: str, bias: str) -> str:
        prefix = f"encoder.layer.{index}"
        attended = self._attention(f"{prefix}.attention", states, bias)
        projected = self._dense(f"{prefix}.attention.output.dense", attended)
        attention = self._norm(
            f"{prefix}.attention.output.LayerNorm", self._node("Add", [projected, states], f"{prefix}.residual_1")
        )
        inner = self._gelu(prefix, self._dense(f"{prefix}.intermediate.dense", attention))
        outer = self._dense(f"{prefix}.output.dense", inner)
        return self._norm(f"{prefix}.output.LayerNorm", self._node("Add", [outer, attention], f"{prefix}.residual_2"))

    def _attention(self, prefix: str, states: str, bias: str) -> str:
        query = self._node("Mul", [self._dense(f"{prefix}.self.query", states), "query_scale"], f"{prefix}.scaled")
        heads = {
            "query": self._heads(f"{prefix}.q", query, [0, 2, 1, 3]),
            "key": self._heads(f"{prefix}.k", self._dense(f"{prefix}.self.key", states), [0, 2, 3, 1]),
            "value": self._heads(f"{prefix}.v", self._dense(f"{prefix}.self.value", states), [0, 2, 1, 3]),
        }
        scores = self._node("MatMul", [heads["query"], heads["key"]], f"{prefix}.scores")
        masked = self._node("Add", [scores, bias], f"{prefix}.masked")
        shares = self._node("Softmax", [masked], f"{prefix}.shares", axis=-1)
        mixed = self._node("MatMul", [shares, heads["value"]], f"{prefix}.mixed")
        joined = self._node("Transpose", [mixed], f"{prefix}.joined", perm=[0, 2, 1, 3])
        return self._node("Reshape", [joined, "join_heads"], f"{prefix}.context")

    def _heads(self, name: str, states: str, order: list[int]) -> str:
        split = self._node("Reshape", [states, "split_heads"], f"{name}.split")
        return self._node("Transpose", [split], f"{name}.heads", perm=order)

    def _gelu(self, prefix: str, states: str) -> str:
        """x · ½ · (1 + erf(x / √2)), without the tanh approximation."""
        scaled = self._node("Div", [states, "sqrt_two"], f"{prefix}.gelu.scaled")
        erf = self._node("Erf", [scaled], f"{prefix}.gelu.erf")
        shifted = self._node("Add", [erf, "one"], f"{prefix}.gelu.shifted")
        product = self._node("Mul", [states, shifted], f"{prefix}.gelu.product")
        return self._node("Mul", [product, "half"], f"{prefix}.gelu")

    def _pool(self, states: str, mask: str) -> None:
        column = self._node("Unsqueeze", [mask, "axis_2"], "mask_column")
        kept = self._node("Mul", [states, column], "kept")
        total = self._node("ReduceSum", [kept, "axis_1"], "total", keepdims=0)
        count = self._node("ReduceSum", [mask, "axis_1"], "count", keepdims=1)
        mean = self._node("Div", [total, count], "mean")
        length = self._node("ReduceL2", [mean], "mean_length", axes=[1], keepdims=1)
        self._node("Div", [mean, self._node("Max", [length, "least_length"], "divisor")], SENTENCE_EMBEDDING)

    def _dense(self, name: str, states: str) -> str:
        # Checkpoints hold (out, in); MatMul wants (in, out).
        matrix = self._constant(f"{name}.matrix", np.ascontiguousarray(self._weights[f"{name}.weight"].T))
        product = self._node("MatMul", [states, matrix], f"{name}.product")
        return self._node("Add", [product, self._weight(f"{name}.bias")], name)

    def _norm(self, name: str, states: str) -> str:
        inputs = [states, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")]
        return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=self._shape.layer_norm_epsilon)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output
