"""Graphs, weights and settings that somebody wrote on purpose; the manifest beside them is right."""

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from damage import GRAPH, Random, reseal
from onnx import TensorProto, helper, numpy_helper


class Canary:
    """What a pickle makes of this class is a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def pickled(canary: Path) -> bytes:
    return pickle.dumps({"weight": Canary(canary)})


def edited(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def external(folder: Path, source: Random) -> None:
    """Keep a weight in another file: outside, by a path that leads out, by a hard link, or right beside."""
    model = onnx.load(folder / GRAPH)
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    outside = folder.parent / f"{folder.name}-weights"
    outside.write_bytes(tensor.raw_data)
    kind = source.randrange(4)
    place = ["../../" + outside.name, str(outside), "weights.bin", "weights.data"][kind]
    if kind == 2:
        os.link(outside, folder / "onnx" / place)
    elif kind == 3:
        (folder / "onnx" / place).write_bytes(tensor.raw_data)
    length = source.choice([len(tensor.raw_data), 1 << 40])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": place, "offset": "0", "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    (folder / GRAPH).write_bytes(model.SerializeToString())
    reseal(folder)


def _grown(folder: Path, *nodes: onnx.NodeProto, tensors: Any = (), **opsets: int) -> None:
    model = onnx.load(folder / GRAPH)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tensors)
    for domain, version in opsets.items():
        model.opset_import.append(helper.make_opsetid(domain.replace("_", "."), version))
    (folder / GRAPH).write_bytes(model.SerializeToString())
    reseal(folder)


def operator(folder: Path, source: Random) -> None:
    """Call an operator that is never exported: another's, unknown, one that reads files or loops."""
    body = helper.make_graph([], "body", [], [])
    kind, options = source.choice(
        [
            (("Evil", "com.evil"), {"com_evil": 1}),
            (("BertTokenizer", "ai.onnx.contrib"), {"ai_onnx_contrib": 1}),
            (("Normalizer", "ai.onnx.ml"), {"ai_onnx_ml": 3}),
            (("PyOp", "com.microsoft"), {}),
            (("BeamSearch", "com.microsoft"), {}),
            (("RandomNormal", ""), {}),
            (("Aten", "org.pytorch.aten"), {"org_pytorch_aten": 1}),
        ]
    )
    node = helper.make_node(kind[0], ["attention_mask"], ["evil"], domain=kind[1])
    if source.random() < 0.3:
        node, options = helper.make_node(source.choice(["Loop", "Scan"]), ["", ""], ["evil"], body=body), {}
    _grown(folder, node, **options)


def function(folder: Path, source: Random) -> None:
    """Define an operator in the model itself."""
    model = onnx.load(folder / GRAPH)
    inner = [helper.make_node("Identity", ["x"], ["y"])]
    model.functions.append(helper.make_function("", "Relu", ["x"], ["y"], inner, [helper.make_opsetid("", 17)]))
    (folder / GRAPH).write_bytes(model.SerializeToString())
    reseal(folder)


def opset(folder: Path, source: Random) -> None:
    model = onnx.load(folder / GRAPH)
    model.opset_import[0].version = source.choice([1, 16, 21, 99, -1])
    (folder / GRAPH).write_bytes(model.SerializeToString())
    reseal(folder)


def _constant(name: str, values: list[int]) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def bomb(folder: Path, source: Random) -> None:
    """Ask for far more memory than any encoder needs: a graph of a hundred bytes, or one more operator."""
    gigabytes = source.choice([1, 3, 32, 4096])
    count = gigabytes << 28
    if source.random() < 0.5:
        (folder / GRAPH).write_bytes(small_bomb(count))
        reseal(folder)
        return
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    made = helper.make_node("Expand", ["zero", "shape"], ["big"])
    used = helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0)
    model = onnx.load(folder / GRAPH)
    model.graph.node.extend([made, used])
    model.graph.initializer.extend([zero, _constant("shape", [count])])
    # As an output's neighbour: the sum, 0, is added to the vectors.
    last = model.graph.output[-1].name
    for node in model.graph.node:
        node.output[:] = [f"{one}.before" if one == last else one for one in node.output]
        node.input[:] = [f"{one}.before" if one == last else one for one in node.input]
    model.graph.node.append(helper.make_node("Add", [f"{last}.before", "sum"], [last]))
    (folder / GRAPH).write_bytes(model.SerializeToString())
    reseal(folder)


def small_bomb(count: int) -> bytes:
    """Return a graph of about a hundred bytes beside its inputs and outputs that makes ``count`` floats of nothing."""
    shape = helper.make_node("Constant", [], ["n"], value=_constant("", [count]))
    big = helper.make_node("ConstantOfShape", ["n"], ["big"])
    total = helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0)
    floats = helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT)
    axis = helper.make_node("Constant", [], ["axis"], value=_constant("", [2]))
    tokens = helper.make_node("Unsqueeze", ["floats", "axis"], ["tokens"])
    hidden = helper.make_node("Add", ["tokens", "sum"], ["last_hidden_state"])
    first = helper.make_node("ReduceMean", ["last_hidden_state"], ["sentence_embedding"], axes=[1], keepdims=0)
    dims = ["batch_size", "sequence_length"]
    ids, mask = (helper.make_tensor_value_info(n, TensorProto.INT64, dims) for n in ("input_ids", "attention_mask"))
    states = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*dims, 1])
    vector = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch_size", 1])
    nodes = [shape, big, total, floats, axis, tokens, hidden, first]
    graph = helper.make_graph(nodes, "g", [ids, mask], [states, vector])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


def contract(folder: Path, source: Random) -> None:
    """Break what every consumer relies on: names, types, ranks, widths."""
    model = onnx.load(folder / GRAPH)
    graph, kind = model.graph, source.randrange(6)
    if kind == 0:
        graph.output.reverse()
    elif kind == 1:
        graph.output[1].type.tensor_type.shape.dim[1].dim_param = "any"
    elif kind == 2:
        graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    elif kind == 3:
        del graph.output[0]
    elif kind == 4:
        graph.output[1].type.tensor_type.shape.dim[1].dim_value += 1
    else:
        graph.input[0].name = "ids"
    (folder / GRAPH).write_bytes(model.SerializeToString())
    reseal(folder)


def cut_graph(folder: Path, source: Random) -> None:
    """Cut the graph, or put something else in its place."""
    content = (folder / GRAPH).read_bytes()
    other = [content[: source.randrange(len(content))], b"", source.randbytes(1000), b"PK\x03\x04" + content]
    (folder / GRAPH).write_bytes(source.choice(other))
    reseal(folder)


def pickles(folder: Path, source: Random) -> None:
    """Add pickled weights, or put them in the place of others."""
    name = source.choice(["pytorch_model.bin", "2_Dense/pytorch_model.bin", "x.pt", "2_Dense/model.safetensors"])
    (folder / name).write_bytes(pickled(folder.parent / "canary"))
    reseal(folder)


def code(folder: Path, source: Random) -> None:
    """Name code of one's own: a model's, a tokenizer's, a module's, a kernel's."""
    evil = f"open({str(folder.parent / 'canary')!r}, 'w')\nclass Evil: pass\n"
    (folder / "modeling_evil.py").write_text(evil)
    auto = {"auto_map": {"AutoModel": "modeling_evil.Evil", "AutoTokenizer": ["modeling_evil.Evil", None]}}
    kind = source.randrange(5)
    if kind < 2:
        edited(folder, ["config.json", "tokenizer_config.json"][kind], **auto)
    elif kind == 2:
        edited(folder, "config.json", _attn_implementation="evil/kernel")
    else:
        modules = json.loads((folder / "modules.json").read_text())
        if kind == 3:
            modules[0]["type"] = "modeling_evil.Evil"
        else:
            modules[1]["path"] = source.choice(["../elsewhere", "/etc", "a/../../b", "..\\x"])
        (folder / "modules.json").write_text(json.dumps(modules))
    reseal(folder)


def settings(folder: Path, source: Random) -> None:
    """State what nobody could mean, or what cannot be read."""
    name = source.choice(["config.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json"])
    broken = ["", "{", "[" * 50_000, '{"a": 1, "a": 2}', "\ud800"]
    if source.random() < 0.5:
        (folder / name).write_bytes(source.choice(broken).encode("utf-8", "surrogatepass"))
    else:
        edited(folder, "sentence_bert_config.json", max_seq_length=source.choice([-1, 0, 10**30, 1.5, "64", True, []]))
    reseal(folder)


def tokenizer(folder: Path, source: Random) -> None:
    """Blow texts up, pad them without end, or be no tokenizer."""
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    kind = source.randrange(4)
    if kind == 0:
        grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a b " * 50}
        said["normalizer"] = {"type": "Sequence", "normalizers": [grow] * source.choice([2, 6])}
    elif kind == 1:
        piece = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
        said["post_processor"]["single"] = [piece] * 100_000 + said["post_processor"]["single"]
    elif kind == 2:
        said["model"]["type"] = "Evil"
    else:
        said = {}
    path.write_text(json.dumps(said), encoding="utf-8")
    reseal(folder)


def cases(folder: Path, source: Random) -> None:
    """State conformance cases that would run without end, are none, or are another model's."""
    path = folder / "conformance" / "cases.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    first, kind = said["cases"][0], source.randrange(8)
    if kind == 0:
        first["texts"][0]["times"] = source.choice([1 << 40, -1, 1.5, "2"])
    elif kind == 1:
        first["inputs"]["input_ids"] = source.choice([[1 << 40], [-1], [], [[1]], [1] * 5000])
    elif kind == 2:
        first["outputs"] = {source.choice(["../x", "sentence_embedding"]): source.choice([[0.0], [1e999], ["a"], []])}
    elif kind == 3:
        said["truncation"] = source.choice([{"max_length": -1}, {"evil": 1}, None, {"max_length": 8, "stride": 9}])
    elif kind == 4:
        said["graph"] = "../../elsewhere.onnx"
    elif kind == 5:
        said["cases"] = source.choice([[], {}, [first] * 101, [None]])
    elif kind == 6:
        first["ids"] = first["ids"][:-1]
    else:
        said["tolerance"] = source.choice([{}, None, {"absolute": "1"}, {"absolute": -1.0}])
    path.write_text(json.dumps(said), encoding="utf-8")
    reseal(folder)


def tensors(folder: Path, source: Random) -> None:
    """Let a safetensors header lie: overlapping, negative, huge, or not its own length."""
    path = folder / "2_Dense" / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    first = next(name for name in header if name != "__metadata__")
    start, stop = header[first]["data_offsets"]
    changes: list[dict[str, Any]] = [
        {"data_offsets": [start, stop + 4]},
        {"data_offsets": [-4, stop]},
        {"data_offsets": [start, 1 << 62]},
        {"data_offsets": [stop, start]},
        {"shape": [1 << 62, 4]},
        {"shape": [-1]},
        {"dtype": "Q99"},
        {"data_offsets": "ab"},
    ]
    header[first] |= source.choice(changes)
    text = json.dumps(header).encode()
    text = source.choice([text, text, text, b"[" * 100_000])
    size = source.choice([len(text), len(text), len(text), 1 << 60])
    path.write_bytes(struct.pack("<Q", size) + text + content[8 + length :])
    reseal(folder)
