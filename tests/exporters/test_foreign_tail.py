"""Pooling, Dense and Normalize behind a graph of others, in every opset, held against NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compressor.core.errors import ModelError
from compressor.models.pooling import FLAGS
from exporters.foreign.graph import rewrite
from exporters.foreign.settings import Dense, Stated

Floats = NDArray[np.float32]
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(20, 6)).astype(np.float32)
WEIGHT, BIAS = RANDOM.normal(size=(4, 6)).astype(np.float32), RANDOM.normal(size=4).astype(np.float32)
IDS = RANDOM.integers(0, 20, (3, 5))
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
COUNT = MASK.sum(axis=1)
TOKENS = TABLE[IDS]
REAL = MASK[..., None].astype(np.float32)
PLACES = REAL * np.arange(1, 6)[None, :, None]
POOLED = {
    "cls": TOKENS[:, 0],
    "max": np.where(REAL > 0, TOKENS, -np.inf).max(axis=1),
    "mean": (TOKENS * REAL).sum(axis=1) / COUNT[:, None],
    "mean_sqrt_len_tokens": (TOKENS * REAL).sum(axis=1) / np.sqrt(COUNT)[:, None],
    "weightedmean": (TOKENS * PLACES).sum(axis=1) / PLACES.sum(axis=1),
    "lasttoken": TOKENS[np.arange(3), COUNT - 1],
}
ACTIVATIONS = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def lookup(opset: int, half: bool = False) -> onnx.ModelProto:
    """Return a graph that looks tokens up in a table, without a mask, as ``token_embeddings``."""
    table = TABLE.astype(np.float16) if half else TABLE
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["token_embeddings"])],
        "lookup",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("token_embeddings", kind, ["b", "s", 6])],
        [numpy_helper.from_array(table, "table")],
    )
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("org.pytorch.aten", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def vectors(model: onnx.ModelProto, *modes: str, steps: Any = (), dim: int | None = None) -> Floats:
    rewrite(model, Stated(modes, "", tuple(steps), 8, False, dim, True, {}, Path()), {"token_embeddings": 6})
    assert [entry.domain for entry in model.opset_import] == [""]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["input_ids", "attention_mask"]
    outputs = {value.name: value.shape for value in session.get_outputs()}
    made = session.run(None, {"input_ids": IDS, "attention_mask": MASK})
    assert outputs == {
        "last_hidden_state": ["batch_size", "sequence_length", 6],
        "sentence_embedding": ["batch_size", made[1].shape[1]],
    }
    assert made[0].dtype == made[1].dtype == np.float32
    return np.asarray(made[1])


@pytest.mark.parametrize("opset", range(11, 23))
@pytest.mark.parametrize("mode", FLAGS)
def test_pooling(mode: str, opset: int) -> None:
    np.testing.assert_allclose(vectors(lookup(opset), mode), POOLED[mode], atol=1e-6)


@pytest.mark.parametrize("opset", [11, 18])
def test_pooling_of_half_precision(opset: int) -> None:
    for mode, expected in POOLED.items():
        np.testing.assert_allclose(vectors(lookup(opset, half=True), mode), expected, atol=5e-3)


def test_several_stand_side_by_side() -> None:
    expected = np.concatenate([POOLED["lasttoken"], POOLED["mean"]], axis=1)
    np.testing.assert_allclose(vectors(lookup(17), "lasttoken", "mean"), expected, atol=1e-6)


@pytest.mark.parametrize("opset", [11, 13, 18, 22])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_and_length_one(activation: str, opset: int) -> None:
    dense = Dense(WEIGHT, BIAS, activation)
    expected = ACTIVATIONS[activation](POOLED["mean"] @ WEIGHT.T + BIAS)
    np.testing.assert_allclose(vectors(lookup(opset), "mean", steps=[dense]), expected, atol=1e-5)
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors(lookup(opset), "mean", steps=[dense, None]), unit, atol=1e-5)
    cut = vectors(lookup(opset), "mean", steps=[dense, None], dim=3)  # behind everything: no longer of length 1
    np.testing.assert_allclose(cut, unit[:, :3], atol=1e-5)
    assert vectors(lookup(opset), "mean", steps=[dense], dim=4).shape == (3, 4)


def test_a_zero_vector_stays_zero() -> None:
    nothing = Dense(np.zeros_like(WEIGHT), None, "Identity")
    np.testing.assert_array_equal(vectors(lookup(17), "mean", steps=[nothing, None]), np.zeros((3, 4)))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^a Dense with activation 'SiLU'; taken are Identity, Tanh, ReLU, Sigmoid"):
        vectors(lookup(17), "mean", steps=[Dense(WEIGHT, BIAS, "SiLU")])
    with pytest.raises(ModelError, match=r"^a Dense of 6 units behind vectors of 12$"):
        vectors(lookup(17), "mean", "cls", steps=[Dense(WEIGHT, BIAS, "Tanh")])


def test_the_quantizer_leaves_what_follows_the_pooling() -> None:
    from exporters.precision.products import after_pooling

    model = lookup(17)
    vectors(model, "mean", steps=[Dense(WEIGHT, BIAS, "Tanh"), None])
    products = {node.name for node in model.graph.node if node.op_type == "MatMul"}
    assert products
    assert products <= set(after_pooling(model))
