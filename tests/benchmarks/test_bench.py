"""The benchmark refuses early what it cannot measure, and joins what belongs together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benched import SERVED, benched, offline, system_figures
from builders import sentences
from graphs import draft
from questions import SHAPE, make_readers, questions
from tokenizers import Tokenizer

from benchmarks import bench as module
from benchmarks.bench import Bench, ReaderBench
from benchmarks.results import BenchFigures, MeasuredOn
from benchmarks.speed.figures import Footprint
from benchmarks.systems import Made, System, systems_of
from compressor.answering.readers.reader import Reading
from compressor.core.errors import CompressorError, ProviderError, RecipeError, TextError
from exporters.runtime import providers
from exporters.runtime.names import OPENVINO
from exporters.runtime.providers import CPU, CUDA, TENSORRT
from exporters.tasks import ANSWERING, EMBEDDING, task_named

STEPS = ("teacher", "distil", "pca", "quantize", "fp32", "int8")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a folder with STS files, one name twice."""
    for name in ("sts.csv", "more.csv", "other/sts.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a cat,a dog,1\nb,c,2\nd,e,3\n")
    return tmp_path


def test_sts_files_are_read(base: Path) -> None:
    assert [sts.name for sts in Bench(sts=("sts.csv", "more.csv"), speed_texts="sts.csv").check(base)] == [
        "sts",
        "more",
    ]
    assert Bench().check(base) == []


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"sts": ("sts.csv", "nowhere.csv")}, TextError, r"nowhere\.csv: no such file$"),
        ({"speed_texts": "nowhere.csv"}, TextError, r"nowhere\.csv: no such file$"),
        ({"providers": ()}, ProviderError, r"^no execution provider given"),
        ({"providers": (CPU, "Fast")}, ProviderError, r"^'Fast': no execution provider; allowed: CPUExec"),
        (
            {"sts": ("sts.csv", "other/sts.csv")},
            RecipeError,
            r"^bench\.sts = \['sts\.csv', 'other/sts\.csv'\]: two files of one name; figures are told apart by it$",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    options: dict[str, Any], kind: type[CompressorError], message: str, base: Path
) -> None:
    with pytest.raises(kind, match=message):
        Bench(**options).check(base)


def test_cuda_is_looked_for_in_both_libraries(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Bench(providers=(CPU, CUDA))
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(ProviderError, match=r"^CUDAExecutionProvider: not in this ONNX Runtime .*onnxruntime-gpu"):
        asked.check(base)
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ProviderError, match=r"^CUDAExecutionProvider: PyTorch sees no CUDA device; install"):
        asked.check(base)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert asked.check(base) == []


def test_a_provider_that_takes_part_of_a_graph_is_measured_on_every_graph() -> None:
    told = f"{OPENVINO}:INFERENCE_PRECISION_HINT=bf16:NUM_STREAMS=2"
    found = listed(*STEPS, providers=(CPU, OPENVINO, told), threads=2)
    own = [
        (system.name, system.label, system.provider, system.threads) for system in found if "openvino" in system.name
    ]
    assert own == [
        ("onnx-fp32-openvino", "student, ONNX fp32, OpenVINO", OPENVINO, 2),
        ("onnx-int8-openvino", "student, ONNX int8, OpenVINO", OPENVINO, 2),
        ("onnx-fp32-openvino-bf16-2", "student, ONNX fp32, OpenVINO (INFERENCE_PRECISION_HINT bf16, NUM_STREAMS 2)",
         told, 2),
        ("onnx-int8-openvino-bf16-2", "student, ONNX int8, OpenVINO (INFERENCE_PRECISION_HINT bf16, NUM_STREAMS 2)",
         told, 2),
    ]  # fmt: skip
    assert [system.name for system in found if "openvino" not in system.name] == [s.name for s in listed(*STEPS)]


def test_a_provider_that_would_be_left_out_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    with pytest.raises(ProviderError) as caught:
        Bench(providers=(CPU, "AzureExecutionProvider")).check(base)
    assert str(caught.value).startswith(
        "'AzureExecutionProvider': is in every wheel for the CPU, and sends what it is given to a service; allowed: CPU"
    )


def test_texts_are_the_heldout_ones_or_a_files(base: Path) -> None:
    heldout = sentences(100)
    assert Bench(count=64).pick_texts(base, heldout) == ("held-out texts", heldout[:64])
    assert Bench(speed_texts="sts.csv").pick_texts(base, heldout) == ("sts", ["a cat", "b", "d", "a dog", "c", "e"])


def names(systems: list[System]) -> list[tuple[str, str, str, str]]:
    return [(system.name, system.kind, system.folder, system.provider) for system in systems]


def listed(*stages: str, providers: tuple[str, ...] = (CPU,), threads: int | None = None) -> list[System]:
    made = {stage: Made(Path(f"/runs/{stage}")) for stage in stages}
    return systems_of(made, task_named(EMBEDDING), providers, threads)


TORCH = "PyTorch CPU"
ALL = [
    ("teacher", "torch", "/runs/teacher", TORCH),
    ("student", "torch", "/runs/pca", TORCH),
    ("torch-int8", "torch-int8", "/runs/quantize", TORCH),
    ("onnx-fp32", "onnx", "/runs/fp32", CPU),
    ("onnx-int8", "onnx", "/runs/int8", CPU),
]


def test_the_teacher_comes_first() -> None:
    found = listed(*STEPS, threads=3)
    assert names(found) == ALL
    assert [system.stage for system in found] == ["teacher", "pca", "quantize", "fp32", "int8"]
    assert {system.threads for system in found} == {3}
    assert len({system.label for system in found}) == 5


def test_stages_left_out_are_not_measured() -> None:
    found = names(listed("teacher", "distil", "fp32", "int8"))
    assert found == [ALL[0], ("student", "torch", "/runs/distil", TORCH), *ALL[3:]]
    assert names(listed("teacher", "fp32", "int8")) == [ALL[0], *ALL[3:]]


def test_of_a_readers_students_the_last_is_measured_as_it_reads() -> None:
    stages = ("teacher", "distil-1", "distil-2", "quantize", "fp32", "int8")
    made = {stage: Made(Path(f"/runs/{stage}"), f'{{"of": "{stage}"}}') for stage in stages}
    found = systems_of(made, task_named(ANSWERING), (CPU,), 2)
    assert names(found) == [ALL[0], ("student", "torch", "/runs/distil-2", TORCH), *ALL[2:]]
    assert [system.reading for system in found] == [made[system.stage or ""].reading for system in found]
    assert {system.task for system in found} == {ANSWERING}
    assert found[0].label == "teacher, PyTorch fp32"


def test_cuda_adds_the_teacher_and_the_fp32_graph() -> None:
    found = names(listed(*STEPS, providers=(CPU, CUDA)))
    assert found[:5] == ALL
    assert found[5:] == [
        ("teacher-cuda", "torch", "/runs/teacher", "PyTorch CUDA"),
        ("teacher-fp16-cuda", "torch", "/runs/teacher", "PyTorch CUDA fp16"),
        ("onnx-fp32-cuda", "onnx", "/runs/fp32", CUDA),
    ]
    found = names(listed(*STEPS, "fp16", providers=(CPU, CUDA)))
    assert found[8:] == [("onnx-fp16-cuda", "onnx", "/runs/fp16", CUDA)]
    found = names(listed(*STEPS, "fp16", providers=(CPU, TENSORRT)))
    assert found[5:] == [
        ("onnx-fp32-tensorrt", "onnx", "/runs/fp32", TENSORRT),
        ("onnx-fp16-tensorrt", "onnx", "/runs/fp16", TENSORRT),
    ]


def quality(value: float) -> dict[str, Any]:
    return {"agreement": {"cosine_mean": value}, "sts": {"en": 100 * value}}


def test_quality_is_joined_by_stage() -> None:
    story = [{"stage": stage} | quality(i / 10) for i, stage in enumerate(STEPS)]
    stages = ["teacher", "pca", "quantize", "fp32", "int8", "fp32"]
    names = [*(name for name, *_ in ALL), "onnx-fp32-cuda"]
    measured = benched(*(system_figures(name, stage) for name, stage in zip(names, stages, strict=True)))
    joined = measured.with_story(story)
    assert joined.rounds == 3
    rows = joined.as_dict()["systems"]
    assert [(row["name"], row["sts"]["en"], row["size_bytes"]) for row in rows] == [
        ("teacher", 0, 1000),
        ("student", 20, 1000),
        ("torch-int8", pytest.approx(30), 1000),
        ("onnx-fp32", 40, 1000),
        ("onnx-int8", 50, 1000),
        ("onnx-fp32-cuda", 40, 1000),
    ]
    assert joined.systems[1].quality.agreement == {"cosine_mean": 0.2}
    assert "sts" not in measured.as_dict()["systems"][0]  # the input is left as it is


@pytest.fixture
def systems(tiny: Path, artifacts: Callable[..., Path]) -> list[System]:
    graph = str(artifacts() / "int8")
    return [System("teacher", "t", "torch", str(tiny), TORCH), System("onnx-int8", "o", "onnx", graph, CPU, 1)]


SMALL = Bench(count=64, batch_sizes=(8, 16), rounds=2, queries=20, lengths=(8, 32, 65, 256), threads=2)


def test_measuring_gives_every_figure(
    systems: list[System], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "footprint", lambda system, texts: Footprint(0.25, 0.5, len(texts), system.threads))
    texts, made = sentences(64), draft(tmp_path / "bench")
    SMALL.run(systems, texts, "sentences", made)
    found = json.loads((made.folder / "bench.json").read_text())
    tokens = [len(Tokenizer.from_file(str(tiny / "tokenizer.json")).encode(text).ids) for text in texts]
    assert BenchFigures.read(found).as_dict() == found
    assert found["unit"] == "texts"
    assert found["texts"]["source"] == "sentences"
    assert found["texts"]["count"] == 64
    assert found["texts"]["tokens_mean"] == pytest.approx(sum(tokens) / 64)
    assert (found["rounds"], found["threads"]) == (2, 2)
    a_a = found["a_a"]
    assert a_a["system"] == "onnx-int8"
    for scenario in ("offline", "single_stream"):
        assert 0.1 < a_a[scenario]["low"] <= a_a[scenario]["ratio"] <= a_a[scenario]["high"] < 10
    assert a_a["offline"]["confidence"] == 0.5  # two rounds
    assert [row["tokens"] for row in found["limit"]["by_length"]] == [8, 32]
    teacher, graph = found["systems"]
    for row, system in ((teacher, systems[0]), (graph, systems[1])):
        assert (row["name"], row["label"], row["provider"]) == (system.name, system.label, system.provider)
        assert row["size_bytes"] == system.size_bytes
        assert (row["load_seconds"], row["peak_memory_bytes"]) == (0.5, 64)
        assert set(row["offline"]["by_batch_size"]) == {"8", "16"}
        assert len(row["offline"]["rounds"]) == 2
        assert row["single_stream"]["queries"] == 20
        assert [r["tokens"] for r in row["by_length"]] == [8, 32]  # 65 and 256 are above the model's 64
    assert teacher["offline"]["ratio"] == 1
    assert graph["offline"]["ratio"] > 1


def test_the_limit_is_of_graphs_on_the_cpu(systems: list[System]) -> None:
    assert SMALL._limit(systems[0], sentences(64)) is None
    assert SMALL._limit(System("g", "g", "onnx", systems[1].folder, CUDA), sentences(64)) is None


def test_the_server_scenario_is_of_graphs_and_asked_for(systems: list[System], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def server(encoders: Any, items: Any, bound_ms: float, ceilings: Any) -> dict[str, Any]:
        asked.append((list(encoders), bound_ms, ceilings))
        return {name: SERVED for name in encoders}

    monkeypatch.setattr(module, "server", server)
    fast = {"teacher": offline(10.0), "onnx-int8": offline(100.0)}
    encoders, task = {system.name: system.open() for system in systems}, task_named(EMBEDDING)
    assert SMALL._server(task, encoders, sentences(64), fast) == {}
    wanted = SMALL.model_copy(update={"server_p99_ms": 50.0})
    assert wanted._server(task, encoders, sentences(64), fast) == {"onnx-int8": SERVED}
    assert asked == [(["onnx-int8"], 50.0, {"onnx-int8": pytest.approx(120)})]


def test_token_figures_are_of_the_texts_lengths(tiny: Path) -> None:
    task = task_named(EMBEDDING)
    tokenizer = task.tokenizer(tiny)
    texts = [" ".join(["cat"] * n) for n in (1, 1, 2, 3, *[5] * 95, 38)]  # each with two special tokens
    found = MeasuredOn.of("cats", task.tokens(tokenizer, [*texts, "cat " * 48]))
    assert (found.source, found.count) == ("cats", 101)
    mean = (3 + 3 + 4 + 5 + 95 * 7 + 40 + 50) / 101
    assert (found.tokens_mean, found.tokens_p50, found.tokens_p99) == pytest.approx((mean, 7, 40))


def test_systems_of_one_name_are_refused(systems: list[System]) -> None:
    with pytest.raises(RecipeError, match=r"^systems teacher, teacher: each needs a name of its own$"):
        SMALL.measure([systems[0], systems[0]], sentences(64), "sentences")


@pytest.fixture(scope="module")
def readers(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_readers(tiny, tmp_path_factory.mktemp("readers"))


@pytest.mark.slow
def test_readers_have_every_figure_that_encoders_have(readers: Path, systems: list[System]) -> None:
    """A/A, lengths, the limit and Server, by the same code."""
    asked = questions(64, seed=1)
    own = [
        System(
            "teacher",
            "t",
            "torch",
            str(readers / "reader"),
            TORCH,
            task=ANSWERING,
            reading=Reading(**SHAPE).model_dump_json(),
        ),
        System("onnx-int8", "o", "onnx", str(readers / "int8"), task=ANSWERING),
    ]
    shared = {"count": 64, "batch_sizes": (4, 16), "rounds": 2, "queries": 20, "threads": 2}
    bench = ReaderBench(**shared, lengths=(16, 32, 49), server_p99_ms=None)
    found = bench.measure(own, bench.pick(asked), "questions").as_dict()
    encoders = Bench(**shared | {"lengths": (16, 32)}).measure(systems, sentences(64), "sentences").as_dict()
    assert found.keys() == encoders.keys()
    assert found["systems"][1].keys() == encoders["systems"][1].keys()
    assert BenchFigures.read(found).as_dict() == found
    assert found["unit"] == "questions"
    assert found["texts"]["count"] == 64
    pairs = [(question.text, question.context) for question in asked]
    tokenizer = Tokenizer.from_file(str(readers / "reader" / "tokenizer.json"))
    tokens = [len(encoding.ids) for encoding in tokenizer.encode_batch(pairs)]
    assert found["texts"]["tokens_mean"] == pytest.approx(sum(tokens) / 64)
    assert 0.1 < found["a_a"]["offline"]["low"] <= found["a_a"]["offline"]["high"] < 10
    assert [row["tokens"] for row in found["limit"]["by_length"]] == [16, 32]  # windows have 48 tokens at most
    for row in found["systems"]:
        assert row["offline"]["questions_per_second"] > 0
        assert [r["tokens"] for r in row["by_length"]] == [16, 32]
        assert row["by_length"][0]["questions_per_second"] > row["by_length"][1]["questions_per_second"] / 3
        assert (row["threads"], row["load_threads"]) == (2, 2)


def test_readers_are_served(readers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.speed.server.SECONDS", 0.2)
    monkeypatch.setattr("benchmarks.speed.server.QUERIES", 30)
    task = task_named(ANSWERING)
    opened = {
        "torch": task.open(readers / "reader", "torch", TORCH, 1, reading=Reading(**SHAPE).model_dump_json()),
        "onnx": task.open(readers / "fp32", "onnx", CPU, 1),
    }
    bench = ReaderBench(server_p99_ms=2000.0)
    items = bench.pick(questions(30, seed=2))
    found = bench._server(task, opened, items, {"onnx": offline(50.0)})
    assert list(found) == ["onnx"]
    assert 0 < found["onnx"].rate <= 60
    assert (kept := found["onnx"].kept) is not None
    assert kept.latency_ms_p99 is not None
    assert kept.latency_ms_p99 <= 2000
