"""A provider and its options are read, checked and said again; what is not known to be right is refused in one line."""

import json
import re
from typing import Any

import pytest

from compressor.core.errors import ProviderError
from exporters.runtime.asked import KNOWN, Asked
from exporters.runtime.names import COREML, CPU, CUDA, DNNL, PARTIAL, QNN, XNNPACK, name_of, named, with_cpu
from exporters.runtime.names import OPENVINO as OV
from exporters.runtime.providers import require_providers, side_by_side, stated_streams, with_options


def config(**properties: str) -> dict[str, str]:
    return {"load_config": json.dumps({"CPU": properties})}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (CPU, CPU),
        (f"{OV}:NUM_STREAMS=2:INFERENCE_PRECISION_HINT=BF16", f"{OV}:NUM_STREAMS=2:INFERENCE_PRECISION_HINT=bf16"),
        ((OV, {"num_of_threads": 2, "enable_qdq_optimizer": True}), f"{OV}:num_of_threads=2:enable_qdq_optimizer=true"),
        ((OV, {"load_config": {"CPU": {"NUM_STREAMS": 2}}}), f"{OV}:NUM_STREAMS=2"),
        ((OV, config(NUM_STREAMS="2")), f"{OV}:NUM_STREAMS=2"),
        (f"{OV}:device_type=HETERO:GPU,CPU:NUM_STREAMS=1", f"{OV}:device_type=HETERO:GPU,CPU:NUM_STREAMS=1"),
        (f"{OV}:cache_dir=C:\\cache:precision=fp32", f"{OV}:cache_dir=C:\\cache:precision=FP32"),
        ([XNNPACK, {"intra_op_num_threads": 3}], f"{XNNPACK}:intra_op_num_threads=3"),
        ((CUDA, {"use_tf32": True}), f"{CUDA}:use_tf32=1"),
        ((OV, {"ENABLE_CPU_PINNING": False}), f"{OV}:ENABLE_CPU_PINNING=NO"),
    ],
)  # fmt: skip
def test_a_provider_is_read_and_said_again(given: Any, said: str) -> None:
    assert str(Asked.of(given)) == said
    assert Asked.of(said) == Asked.of(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("OpenVINO", "'OpenVINO': no execution provider; did you mean OpenVINOExecutionProvider?"),
        ("OpenVinoExecutionProvider", "'OpenVinoExecutionProvider': no execution provider; did you mean OpenVINO"),
        ("AzureExecutionProvider", "'AzureExecutionProvider': is in every wheel for the CPU, and sends what"),
        ("", "'': no execution provider; allowed: CPUExecutionProvider, CUDA"),
        (f"{OV}:fast", f"'{OV}:fast': options are written NAME:option=value:option=value"),
        (f"{OV}:num_stream=2", f"{OV}: option 'num_stream': not known; did you mean num_streams?"),
        (f"{OV}:context=1", f"{OV}: option 'context': not known; allowed: device_type"),
        (f"{QNN}:backend_path=/tmp/x.so", f"{QNN}: option 'backend_path': not known; "),
        (f"{OV}:device_type=XPU", f"{OV}: option device_type = 'XPU': must be CPU, GPU, GPU.0, NPU, or AUTO"),
        (f"{OV}:INFERENCE_PRECISION_HINT=bf17", f"{OV}: option INFERENCE_PRECISION_HINT = 'bf17': must be f32 or"),
        (f"{OV}:NUM_STREAMS=0", f"{OV}: option NUM_STREAMS = '0': must be a whole number from 1 to 1024"),
        (f"{OV}:NUM_STREAMS={'9' * 5000}", f"{OV}: option NUM_STREAMS = '999"),
        (f"{OV}:NUM_STREAMS=\u0663", f"{OV}: option NUM_STREAMS = '\\u0663': must be a whole number"),
        (f"{OV}:NUM_STREAMS=2:NUM_STREAMS=3", f"{OV}: option NUM_STREAMS is given twice"),
        (f"{OV}:NUM_STREAMS=2:num_streams=3", f"{OV}: options NUM_STREAMS and num_streams: they say the same"),
        ((OV, {"NUM_STREAMS": 2.5}), f"{OV}: option NUM_STREAMS = 2.5: must be a whole number"),
        ((OV, {"NUM_STREAMS": True}), f"{OV}: option NUM_STREAMS = True: must be a whole number"),
        ((OV, {"load_config": "{x"}), f"{OV}: option load_config = '{{x': must be JSON of one device"),
        ((OV, {"load_config": "/etc/openvino.json"}), f"{OV}: option load_config = '/etc/openvino.json': must be"),
        ((OV, {"load_config": {"GPU": {}}}), f"{OV}: option load_config = {{'GPU': {{}}}}: must be JSON"),
        ((OV, config(BOGUS="1")), f"{OV}: option load_config: property 'BOGUS': allowed: INFERENCE"),
        ((CPU, {"arena": 1}), f"{CPU}: option 'arena': not known; it has none that may be given"),
        ((OV,), f"providers: ('{OV}',): must be a name, or a name and its options"),
        ((OV, [1]), f"{OV}: options [1]: must be options by name"),
        (3, "providers: 3: must be a name, or a name and its options"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_in_one_line(given: Any, told: str) -> None:
    with pytest.raises(ProviderError, match=f"^{re.escape(told)}") as caught:
        Asked.of(given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_every_provider_says_how_it_is_had_where_it_is_not() -> None:
    for name in (OV, DNNL, XNNPACK, COREML, QNN, "ACLExecutionProvider"):
        assert name in KNOWN
        with pytest.raises(
            ProviderError, match=rf"^{name}: not in this ONNX Runtime \(has .*\); (pip|no wheel)"
        ) as caught:
            require_providers_without(name)
        assert "\n" not in str(caught.value)


def require_providers_without(name: str) -> None:
    """Ask for a provider as where plain onnxruntime is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxruntime.get_available_providers", lambda: ["AzureExecutionProvider", CPU])
        require_providers([name])


@pytest.mark.parametrize(
    ("given", "threads", "streams", "opened"),
    [
        (OV, 1, 2, config(INFERENCE_PRECISION_HINT="f32", INFERENCE_NUM_THREADS="2", NUM_STREAMS="2")),
        (
            f"{OV}:INFERENCE_PRECISION_HINT=bf16:NUM_STREAMS=3", 2, 1,
            config(INFERENCE_PRECISION_HINT="bf16", INFERENCE_NUM_THREADS="2", NUM_STREAMS="3"),
        ),
        (f"{OV}:precision=FP32:num_of_threads=2:num_streams=2", 1, 1,
         {"precision": "FP32", "num_of_threads": "2", "num_streams": "2"}),
        (f"{OV}:device_type=GPU.0", 2, 1, {"device_type": "GPU.0"}),
        (XNNPACK, 2, 1, {"intra_op_num_threads": "2"}),
        (f"{XNNPACK}:intra_op_num_threads=1", 2, 1, {"intra_op_num_threads": "1"}),
        (DNNL, 2, 1, {"threads": "2"}),
        (f"{CUDA}:use_tf32=1", 2, 1, {"use_tf32": "1"}),
    ],
)  # fmt: skip
def test_threads_streams_and_exact_products_are_told(given: str, threads: int, streams: int, opened: Any) -> None:
    [(name, options)] = with_options([given], threads, streams)
    own = {key: json.loads(value) if key == "load_config" else value for key, value in options.items()}
    wanted = {key: json.loads(value) if key == "load_config" else value for key, value in opened.items()}
    assert (name, own) == (name_of(given), wanted)


@pytest.mark.parametrize(
    ("given", "reduced"),
    [
        (CPU, False),
        (OV, False),
        (f"{OV}:INFERENCE_PRECISION_HINT=f32", False),
        (f"{OV}:precision=ACCURACY", False),
        (f"{OV}:INFERENCE_PRECISION_HINT=bf16", True),
        (f"{OV}:precision=FP16", True),
        (f"{OV}:device_type=GPU", True),
        (f"{OV}:device_type=GPU:INFERENCE_PRECISION_HINT=f32", False),
        (f"{OV}:DYNAMIC_QUANTIZATION_GROUP_SIZE=32", True),
        (COREML, True),
        (f"{COREML}:MLComputeUnits=CPUOnly", False),
        (QNN, True),
        (f"{QNN}:backend_type=cpu", False),
        (f"{CUDA}:use_tf32=1", True),
        ("ACLExecutionProvider:enable_fast_math=true", True),
        ("ACLExecutionProvider", False),
    ],
)
def test_fewer_bits_are_known_for_it(given: str, reduced: bool) -> None:
    assert Asked.of(given).reduced is reduced


def test_what_runs_side_by_side_and_what_is_behind() -> None:
    assert [side_by_side(asked) for asked in ([CPU], [OV], [OV, CPU], [CUDA], [XNNPACK, CPU])] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert not side_by_side([f"{OV}:device_type=GPU"])
    assert [stated_streams([asked]) for asked in (OV, f"{OV}:NUM_STREAMS=4", f"{OV}:num_streams=2")] == [
        None, 4, 2,
    ]  # fmt: skip
    assert with_cpu(f"{OV}:NUM_STREAMS=2") == [f"{OV}:NUM_STREAMS=2", CPU]
    assert [with_cpu(name) for name in (CPU, CUDA)] == [[CPU], [CUDA]]
    assert named([(OV, {"NUM_STREAMS": 2}), CPU]) == [OV, CPU]
    assert set(PARTIAL) < set(KNOWN)
