"""What Triton and KServe read says what the session takes and gives."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from packed import seal, view

from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError, RecipeError
from exporters.runtime.providers import CPU, open_session

TYPES = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
Field = descriptor_pb2.FieldDescriptorProto
# The messages of Triton's model_config.proto that a view uses.
MESSAGES: dict[str, list[tuple[str, str, bool]]] = {
    "ModelTensor": [("name", "string", False), ("data_type", "DataType", False), ("dims", "int64", True)],
    "ModelInstanceGroup": [("count", "int32", False), ("kind", "Kind", False)],
    "ModelDynamicBatching": [("max_queue_delay_microseconds", "uint64", False)],
    "ModelConfig": [
        ("name", "string", False),
        ("backend", "string", False),
        ("max_batch_size", "int32", False),
        ("input", "ModelTensor", True),
        ("output", "ModelTensor", True),
        ("instance_group", "ModelInstanceGroup", True),
        ("dynamic_batching", "ModelDynamicBatching", False),
    ],
}
ENUMS = {"DataType": ["TYPE_INVALID", "TYPE_INT64", "TYPE_FP32"], "Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU"]}
SCALARS = {
    "string": Field.TYPE_STRING,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint64": Field.TYPE_UINT64,
}


def schema() -> Any:
    """Return ModelConfig as a message class, made of the fields above."""
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="inference", syntax="proto3")
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, many) in enumerate(fields, start=1):
            label = Field.LABEL_REPEATED if many else Field.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind in SCALARS:
                added.type = SCALARS[kind]
            else:
                added.type = Field.TYPE_ENUM if kind in ENUMS else Field.TYPE_MESSAGE
                added.type_name = f".inference.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def tritons_own() -> Any:
    """Return ModelConfig as tritonclient has it; skip where that is not installed."""
    reason = "tritonclient[grpc] is not installed"
    return pytest.importorskip("tritonclient.grpc.model_config_pb2", reason=reason).ModelConfig


def check(config: Any, graph: Path, max_batch_size: int = 64) -> None:
    """Compare a parsed config.pbtxt with the session of its graph."""
    session = open_session(graph, [CPU], 1)
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == max_batch_size > 0
    enum = config.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"].enum_type
    for stated, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [one.name for one in stated] == [one.name for one in real]
        assert [enum.values_by_number[one.data_type].name for one in stated] == [TYPES[one.type] for one in real]
        assert all(isinstance(one.shape[0], str) for one in real)  # the batch, which a config leaves out
        dims = [[d if isinstance(d, int) else -1 for d in one.shape[1:]] for one in real]
        assert [list(one.dims) for one in stated] == dims
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 100
    assert [(one.count, one.kind) for one in config.instance_group] == [(1, 2)]  # 2: KIND_CPU


def graph_of(repository: Path, name: str) -> Path:
    """Lay the repository's graph where a session of an artifact looks for it."""
    folder = repository.parent / f"{repository.name}-opened"
    (folder / "onnx").mkdir(parents=True)
    (folder / GRAPH).write_bytes((repository / name / "1" / "model.onnx").read_bytes())
    return folder


@pytest.mark.parametrize("config", [schema, tritons_own], ids=["contract", "tritonclient"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_config_says_what_the_session_does(config: Any, precision: str, sealed: Path, tmp_path: Path) -> None:
    made, name = view(sealed / precision, tmp_path / "view", "triton"), f"tiny-{precision}"
    parsed = text_format.Parse((made / name / "config.pbtxt").read_text("utf-8"), config()())
    assert parsed.name == name
    check(parsed, graph_of(made, name))
    assert [list(one.dims) for one in parsed.output] == [[-1, 32], [16]]


@pytest.mark.parametrize("config", [schema, tritons_own], ids=["contract", "tritonclient"])
def test_a_readers_config_says_what_its_session_does(config: Any, reader: Path, tmp_path: Path) -> None:
    made, name = view(reader / "int8", tmp_path / "view", "triton"), "tiny-reader-int8"
    parsed = text_format.Parse((made / name / "config.pbtxt").read_text("utf-8"), config()())
    check(parsed, graph_of(made, name))
    assert [(one.name, list(one.dims)) for one in parsed.output] == [("start_logits", [-1]), ("end_logits", [-1])]


def test_a_config_that_does_not_fit_fails_the_check(sealed: Path, tmp_path: Path) -> None:
    made = view(sealed / "fp32", tmp_path / "view", "triton")
    text, graph = (made / "tiny-fp32" / "config.pbtxt").read_text("utf-8"), graph_of(made, "tiny-fp32")
    breaks = {
        "TYPE_FP32": "TYPE_INT64",
        "dims: [ 16 ]": "dims: [ -1, 16 ]",
        '"input_ids"': '"ids"',
        "max_batch_size: 64": "max_batch_size: 0",
        "KIND_CPU": "KIND_GPU",
    }
    for old, new in breaks.items():
        assert old in text
        with pytest.raises(AssertionError):
            check(text_format.Parse(text.replace(old, new), schema()()), graph)
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text.replace("backend", "backends"), schema()())


def test_options_reach_the_config(sealed: Path, tmp_path: Path) -> None:
    options = {"name": "m", "max_batch_size": 8, "queue_delay_us": 7, "instances": 3, "device": "gpu"}
    made = view(sealed / "fp32", tmp_path / "view", "triton", **options)
    parsed = text_format.Parse((made / "m" / "config.pbtxt").read_text("utf-8"), schema()())
    assert (parsed.name, parsed.max_batch_size) == ("m", 8)
    assert parsed.dynamic_batching.max_queue_delay_microseconds == 7
    assert [(one.count, one.kind) for one in parsed.instance_group] == [(3, 1)]


def test_a_graph_of_one_batch_size_is_refused(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "fixed" / "onnx").mkdir(parents=True)
    model = onnx.load(sealed / "fp32" / GRAPH)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "fixed" / GRAPH)
    folder = seal(tmp_path / "fixed", tmp_path / "sealed", "fp32")
    with pytest.raises(ArtifactError, match="input input_ids has no free batch dimension"):
        view(folder, tmp_path / "view", "triton")


def test_the_inference_service_is_kserves(sealed: Path, tmp_path: Path) -> None:
    made = view(sealed / "int8", tmp_path / "view", "kserve", storage_uri="s3://bucket/a: b")
    service = yaml.safe_load((made / "inferenceservice.yaml").read_text("utf-8"))
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert service["metadata"] == {"name": "tiny-int8"}
    model = service["spec"]["predictor"].pop("model")
    assert service["spec"] == {"predictor": {}}
    amounts = {"cpu": "2", "memory": "2Gi"}
    assert model == {
        "modelFormat": {"name": "onnx"},
        "protocolVersion": "v2",
        "runtime": "kserve-tritonserver",
        "storageUri": "s3://bucket/a: b",
        "env": [{"name": "ORT_DISABLE_TELEMETRY", "value": "1"}],
        "resources": {"requests": amounts, "limits": amounts},
    }
    text = (made / "model_repository" / "tiny-int8" / "config.pbtxt").read_text("utf-8")
    check(text_format.Parse(text, schema()()), graph_of(made / "model_repository", "tiny-int8"))


def test_a_services_name_is_one_that_clusters_take(sealed: Path, tmp_path: Path) -> None:
    for name in ("Upper", "a_b", "-a", "a" * 64):
        with pytest.raises(RecipeError, match="a service is called by lower-case letters"):
            view(sealed / "int8", tmp_path / "view", "kserve", name=name)
    made = view(sealed / "int8", tmp_path / "view", "kserve", name="a" * 63)
    assert yaml.safe_load((made / "inferenceservice.yaml").read_text())["metadata"]["name"] == "a" * 63
