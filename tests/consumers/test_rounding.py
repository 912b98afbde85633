"""How far int8 vectors move where floats differ in their last bits: what the bar for other kernels stands on."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from compressor.artifact.layout import GRAPH
from compressor.core.encoder import Vectors
from consumers.conftest import INT8_COSINE_MIN, OTHER_KERNELS_MIN
from consumers.texts import TEXTS
from exporters.session import OnnxEncoder

pytestmark = pytest.mark.consumers


def nudged(encoder: OnnxEncoder, seed: int) -> Vectors:
    """Return the vectors of TEXTS where noise of 3e-8, a float's last bit, is on the position embeddings."""
    model = onnx.load(encoder.folder / GRAPH)
    [table] = [t for t in model.graph.initializer if t.name.endswith("position_embeddings.weight")]
    exact = numpy_helper.to_array(table)
    noise = 3e-8 * np.random.default_rng(seed).standard_normal(exact.shape)
    table.CopyFrom(numpy_helper.from_array((exact + noise).astype(np.float32), table.name))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    vectors = []
    for tokens in encoder.tokenize(TEXTS):
        ids, mask = encoder.pad([tokens])
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        vectors.append(session.run(["sentence_embedding"], feeds)[0])
    return np.concatenate(vectors)


def test_int8_turns_the_smallest_difference_over(encoder: OnnxEncoder, expected: Vectors) -> None:
    moved = [nudged(encoder, seed) for seed in range(4)]
    if encoder.folder.name == "fp32":
        assert max(np.abs(vectors - expected).max() for vectors in moved) < 1e-5
        return
    cosines = np.concatenate([(vectors * expected).sum(1) for vectors in moved])
    assert np.median(cosines) >= INT8_COSINE_MIN
    assert OTHER_KERNELS_MIN <= cosines.min() < INT8_COSINE_MIN
