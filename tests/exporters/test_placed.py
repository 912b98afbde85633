"""What is counted of nodes on the CPU provider is said of checks, and fewer bits are held to the bars of int8."""

from types import SimpleNamespace

import pytest

from exporters.foreign.verify import without_promises
from exporters.runtime.names import CPU, OPENVINO
from exporters.runtime.placed import fallen, nodes
from exporters.runtime.running import Running
from exporters.verify.check import Check, is_exact, on_provider
from exporters.verify.embedding import Verify

PLACED = {OPENVINO: {"MatMul": 6, "Add": 3}, CPU: {"QAttention": 3, "Gather": 1}}


def test_nodes_are_counted_and_said() -> None:
    assert [nodes(PLACED), nodes(PLACED, OPENVINO), nodes(PLACED, CPU)] == [13, 9, 4]
    assert fallen(PLACED) == "4 of 13 nodes on CPUExecutionProvider (QAttention 3, Gather 1)"
    assert fallen({OPENVINO: {"MatMul": 6}}) == "0 of 6 nodes on CPUExecutionProvider"


def test_checks_of_another_provider_say_so() -> None:
    check = Check("fp32", "parity with PyTorch", "max_difference", 1e-6, 1e-5, "<=", "verify.parity")
    alone = SimpleNamespace(providers=[CPU], placed=None)
    assert on_provider("fp32", alone, [check]) == [check]
    other = SimpleNamespace(providers=[f"{OPENVINO}:NUM_STREAMS=2", CPU], placed=PLACED)
    judged = on_provider("fp32", other, [check])
    told = [(own.check, own.figure, own.value, own.bar) for own in judged]
    assert told == [
        (f"{OPENVINO}:NUM_STREAMS=2: parity with PyTorch", "max_difference", 1e-6, 1e-5),
        (f"{OPENVINO}:NUM_STREAMS=2: placed", "nodes", 13.0, None),
        (f"{OPENVINO}:NUM_STREAMS=2: placed", "nodes_on_cpu_provider", 4.0, None),
    ]
    assert judged[0].field == "verify.parity"


@pytest.mark.parametrize(
    ("name", "provider", "running", "exact"),
    [
        ("fp32", CPU, Running(), True),
        ("int8", CPU, Running(), False),
        ("fp32", OPENVINO, Running(), True),
        ("fp32", f"{OPENVINO}:INFERENCE_PRECISION_HINT=bf16", Running(), False),
        ("fp32", CPU, Running(bf16_products=True), False),
    ],
)
def test_fewer_bits_are_judged_as_int8_is(name: str, provider: str, running: Running, exact: bool) -> None:
    assert is_exact(name, SimpleNamespace(providers=[provider], running=running)) is exact


def test_graphs_of_others_are_free_of_the_same_bars_on_every_provider() -> None:
    bars = [
        Check("fp32", "fusions as run", "attention", 0, 3),
        Check("fp32", "padding invariance", "cosine_min", 0.5, 1),
    ]
    free = without_promises(bars, Verify())
    told = [Check("fp32", f"{OPENVINO}: {check.check}", check.figure, check.value, check.bar) for check in bars]
    assert [check.bar for check in without_promises(told, Verify())] == [check.bar for check in free]
