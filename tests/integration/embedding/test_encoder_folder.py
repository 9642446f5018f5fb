"""Any folder with an ONNX sentence encoder works as its files say, or is refused with the file's name."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from services.chassis.errors import FailedPrecondition, InvalidRequest, Unavailable
from services.embedding import Embedder, EmbeddingSettings, create, minilm

WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5}
TABLE = np.random.default_rng(2).standard_normal((len(WORDS), 5)).astype(np.float32)
"""The toy encoder's only weights: each piece's vector, whatever stands around it."""


def write_encoder(
    folder: Path, *, pooled: bool = False, token_types: bool = False, external: bool = False, place: str = "model.onnx"
) -> Path:
    """A folder as an export makes it; `pooled`: the graph itself takes the first piece's vector."""
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    name = "sentence_embedding" if pooled else "last_hidden_state"
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["states" if pooled else name])]
    if pooled:
        nodes.append(helper.make_node("Gather", ["states", "zero"], [name], axis=1))
    shape: list[str | int | None] = ["n", 5] if pooled else ["n", "p", 5]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(value, TensorProto.INT64, ["n", "p"]) for value in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(np.array(0, np.int64), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(
        model, folder / place, save_as_external_data=external, location="weights.bin" if external else None,
        size_threshold=0,
    )  # fmt: skip
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_json(folder: Path, name: str, content: object) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def write_pooling(folder: Path, *modes: str) -> None:
    write_json(folder, "1_Pooling/config.json", {f"pooling_mode_{mode}": True for mode in modes})


def opened(folder: Path, **settings: object) -> Embedder:
    return create(EmbeddingSettings.model_validate({"embedder": str(folder), **settings}))


async def vector(embedder: Embedder, text: str) -> NDArray[np.float32]:
    try:
        return np.asarray((await embedder.embed([text])).vectors[0])
    finally:
        await embedder.aclose()


def unit(row: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(row / np.linalg.norm(row))


@pytest.mark.parametrize("token_types", [False, True])
@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
async def test_mean_pooling_leaves_the_padding_out(tmp_path: Path, token_types: bool, place: str) -> None:
    folder = write_encoder(tmp_path, token_types=token_types, place=place)
    write_pooling(folder, "mean_tokens")
    embedder = opened(folder)
    assert (embedder.identity.dim, embedder.default_min_similarity) == (5, 0.95)
    found = (await embedder.embed(["a", "a b c"])).vectors
    np.testing.assert_allclose(found[0], unit(TABLE[[1, 3, 2]].mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(found[1], unit(TABLE[[1, 3, 4, 5, 2]].mean(axis=0)), atol=1e-6)
    await embedder.aclose()


@pytest.mark.parametrize("config", [{"pooling_mode_cls_token": True}, {"pooling_mode": "cls"}])
async def test_the_first_piece_may_stand_for_the_text(tmp_path: Path, config: dict[str, object]) -> None:
    folder = write_encoder(tmp_path)
    write_json(folder, "1_Pooling/config.json", config)
    np.testing.assert_allclose(await vector(opened(folder), "a b"), unit(TABLE[1]), atol=1e-6)


async def test_a_graph_that_pools_needs_no_config(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, pooled=True)
    np.testing.assert_allclose(await vector(opened(folder), "a b"), unit(TABLE[1]), atol=1e-6)


async def test_the_folders_own_window_is_used_and_nothing_is_cut(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path)
    write_pooling(folder, "mean_tokens")
    write_json(folder, "sentence_bert_config.json", {"max_seq_length": 6})
    write_json(folder, "config.json", {"max_position_embeddings": 100})
    embedder = opened(folder, max_windows=2)
    assert [embedder.windows(text) for text in ("a b c a", "a b c a b")] == [1, 3]
    one, other = (await embedder.embed(["a a a a a a a b", "a a a a a a a c"])).vectors
    assert float(one @ other) < 0.999
    with pytest.raises(InvalidRequest):
        await embedder.embed(["a " * 9])
    await embedder.aclose()


async def test_whatever_changes_the_vectors_changes_the_identity(tmp_path: Path) -> None:
    def slug(name: str, *modes: str, **settings: object) -> str:
        folder = write_encoder(tmp_path / name / "encoder", external=True)
        write_pooling(folder, *modes)
        if name == "weights":
            weights = folder / "weights.bin"
            weights.write_bytes(weights.read_bytes()[::-1])
        if name == "tokenizer":
            path = folder / "tokenizer.json"
            path.write_text(path.read_text().replace('"b": 4', '"bb": 4'))
        return opened(folder, **settings).identity.slug

    base = slug("base", "mean_tokens")
    assert slug("same", "mean_tokens") == base
    assert slug("same-but-threads", "mean_tokens", threads=2) == base
    others = [
        slug("pooling", "cls_token"),
        slug("weights", "mean_tokens"),
        slug("tokenizer", "mean_tokens"),
        slug("window", "mean_tokens", window_pieces=64),
    ]
    assert len({base, *others}) == 5


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("nothing", "model.onnx"),
        ("no tokenizer", "tokenizer.json"),
        ("no pooling", "1_Pooling"),
        ("max pooling", "1_Pooling"),
        ("two poolings", "1_Pooling"),
        ("dense step", "modules.json"),
        ("broken json", "sentence_bert_config.json"),
        ("broken graph", "model.onnx"),
        ("absent weights", "weights.bin"),
        ("wrong dim", "dim"),
        ("wide window", "100"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path: Path, case: str, named: str) -> None:
    folder = tmp_path
    if case != "nothing":
        write_encoder(folder, external=case == "absent weights")
        write_pooling(folder, "mean_tokens")
    settings: dict[str, object] = {}
    match case:
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "no pooling":
            shutil.rmtree(folder / "1_Pooling")
        case "max pooling":
            write_pooling(folder, "max_tokens")
        case "two poolings":
            write_pooling(folder, "mean_tokens", "max_tokens")
        case "dense step":
            write_json(folder, "modules.json", [{"type": "sentence_transformers.models.Dense"}])
        case "broken json":
            (folder / "sentence_bert_config.json").write_text("{")
        case "broken graph":
            (folder / "model.onnx").write_bytes(b"\xff" * 100)
        case "absent weights":
            (folder / "weights.bin").unlink()
        case "wrong dim":
            settings["dim"] = 7
        case "wide window":
            write_json(folder, "config.json", {"max_position_embeddings": 100})
            settings["window_pieces"] = 101
    with pytest.raises(FailedPrecondition, match=named):
        opened(folder, **settings)


async def test_vectors_without_a_direction_are_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, external=True)
    weights = folder / "weights.bin"
    weights.write_bytes(b"\x00" * len(weights.read_bytes()))
    write_pooling(folder, "mean_tokens")
    embedder = opened(folder)
    with pytest.raises(Unavailable):
        await embedder.embed(["a"])
    await embedder.aclose()


def test_absent_and_damaged_weights_say_how_to_get_them(tmp_path: Path) -> None:
    settings = EmbeddingSettings(model_dir=tmp_path)
    with pytest.raises(FailedPrecondition, match="antiphon model get"):
        create(settings)
    place = minilm.folder(tmp_path)
    place.mkdir()
    with pytest.raises(FailedPrecondition, match="antiphon model get"):
        create(settings)
    (place / minilm.MODEL_FILE).write_bytes(b"model")
    (place / minilm.TOKENIZER_FILE).write_bytes(b"tokenizer")
    minilm.write_manifest(place)
    (place / minilm.MODEL_FILE).write_bytes(b"mode")
    with pytest.raises(FailedPrecondition, match="antiphon model get"):
        create(settings)
    assert list(tmp_path.iterdir()) == [place], "a server never downloads"


async def test_a_short_text_does_not_wait_for_a_long_one(embedder: Embedder) -> None:
    order: list[str] = []

    async def embed(name: str, text: str) -> None:
        await embedder.embed([text])
        order.append(name)

    long = asyncio.create_task(embed("long", "all the words of a very long text " * 400))
    await asyncio.sleep(0)
    await asyncio.gather(long, embed("short", "a question"))
    assert order == ["short", "long"]


async def test_a_closed_embedder_says_so(model_dir: Path) -> None:
    embedder = create(EmbeddingSettings(model_dir=model_dir))
    await embedder.aclose()
    with pytest.raises(Unavailable):
        await embedder.embed(["a"])
