"""A key changes with the code and the packages that a stage runs on, and with nothing else."""

import ast
import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from compressor.artifact import code as closure
from compressor.artifact import workspace as stages
from compressor.artifact.code import LEFT_OUT, PROJECT, Sources, installed
from compressor.artifact.workspace import Key, stage_key
from compressor.distil.training.embedding import Distil
from compressor.vectors.pca import Pca
from exporters.graph.export import Export
from exporters.graph.optimise import Optimise
from exporters.precision.int8 import OnnxInt8
from exporters.search.embedding import Search

ROOT = Path(closure.__file__).parents[2]
STAGES = {
    "distil": "compressor.distil.training.embedding",
    "multilingual": "compressor.distil.language.multilingual",
    "vectors": "compressor.models.teacher_vectors",
    "index": "compressor.vectors.index",
    "pca": "compressor.vectors.pca",
    "ranges": "compressor.vectors.ranges",
    "quantize": "compressor.models.torch_int8",
    "export": "exporters.graph.export",
    "optimise": "exporters.graph.optimise",
    "fp16": "exporters.precision.fp16",
    "int8": "exporters.precision.int8",
    "search": "exporters.search.embedding",
    "search-reader": "exporters.search.reader",
    "verify": "exporters.verify.embedding",
    "publish": "exporters.publish.card",
    "story": "benchmarks.quality.story",
    "bench": "benchmarks.bench",
    "finetune": "compressor.answering.training.finetune",
    "distil-reader": "compressor.answering.training.distil",
    "export-reader": "exporters.graph.export_reader",
    "verify-reader": "exporters.verify.reader",
    "bench-tradeoff": "benchmarks.tradeoff.measure",
    "growth": "benchmarks.speed.growth",
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, to be edited."""
    root = tmp_path_factory.mktemp("tree")
    for name in PROJECT:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def keys(root: Path, known: Sources | None = None, changed: Path = Path()) -> dict[str, Any]:
    """Return each stage's key; modules that are ``known`` and not ``changed`` are not read again."""
    sources = Sources.under(root)
    read = known._read.items() if known else ()
    sources._read.update({name: module for name, module in read if sources._path(name) != changed})
    return {name: sources.key(module) for name, module in STAGES.items()}


@pytest.fixture(scope="module")
def known(copied: Path) -> Sources:
    sources = Sources.under(copied)
    sources.digests(*STAGES.values())
    return sources


@pytest.fixture(scope="module")
def before(copied: Path, known: Sources) -> dict[str, Any]:
    return keys(copied, known)


@pytest.fixture
def edited(copied: Path, known: Sources, before: dict[str, Any]) -> Any:
    """Edit a file of the copy; return the stages whose keys change."""

    def edit(name: str, change: Callable[[str], str]) -> set[str]:
        path = copied / name
        text = path.read_text()
        try:
            path.write_text(change(text))
            assert path.read_text() != text
            after = keys(copied, known if path.suffix == ".py" else None, path)
        finally:
            path.write_text(text)
        return {stage for stage in STAGES if after[stage] != before[stage]}

    return edit


def add_code(text: str) -> str:
    return text + "\n_CHANGED = 1\n"


@pytest.mark.parametrize(
    ("file", "changed", "kept"),
    [
        (
            "exporters/precision/smooth.py",
            {"int8", "search"},
            {"distil", "pca", "export", "optimise", "bench", "finetune"},
        ),
        (
            "exporters/precision/calibrate.py",
            {"int8", "search", "verify"},
            {"distil", "pca", "export", "optimise", "vectors"},
        ),
        ("exporters/graph/rewrite.py", {"int8", "optimise", "search"}, {"distil", "pca", "export"}),
        ("exporters/verify/parity.py", {"verify", "search"}, {"distil", "int8", "export", "fp16"}),
        ("exporters/verify/check.py", {"verify", "verify-reader", "search", "fp16"}, {"distil", "int8", "export"}),
        ("exporters/verify/lengths.py", {"verify"}, {"search", "distil", "int8", "export", "fp16", "story"}),
        ("compressor/distil/training/lengths.py", {"distil"}, {"pca", "export", "int8", "verify", "publish"}),
        ("compressor/vectors/index.py", {"index"}, {"distil", "int8", "verify", "story", "search", "publish"}),
        (
            "compressor/vectors/retrieval.py",
            {"index", "verify", "story", "bench-tradeoff"},
            {"distil", "pca", "int8", "export", "search", "ranges", "publish"},
        ),
        ("exporters/precision/clipping.py", {"search", "search-reader"}, {"int8", "verify"}),
        ("exporters/search/trials.py", {"search", "search-reader"}, {"int8", "verify", "optimise"}),
        ("exporters/search/reader.py", {"search-reader"}, {"search", "int8", "verify"}),
        ("exporters/reader.py", {"search-reader", "verify-reader"}, {"search", "verify", "export"}),
        ("compressor/distil/training/states.py", {"distil", "distil-reader"}, {"pca", "export", "int8", "vectors"}),
        ("compressor/distil/training/mining.py", {"distil"}, {"distil-reader", "pca", "export", "int8", "vectors"}),
        ("compressor/answering/training/lessons.py", {"distil-reader", "finetune"}, {"export", "int8"}),
        ("compressor/distil/training/trainer.py", {"distil"}, {"pca", "export", "int8", "verify"}),
        ("compressor/distil/training/loop.py", {"distil", "distil-reader", "finetune"}, {"pca", "export", "int8"}),
        ("benchmarks/speed/throughput.py", {"bench"}, {"distil", "int8", "verify", "story"}),
        ("benchmarks/speed/figures.py", {"bench", "growth"}, {"distil", "int8", "verify", "story"}),
        ("benchmarks/results.py", {"bench", "bench-tradeoff"}, {"growth", "distil", "int8", "story"}),
        ("exporters/tasks/embedding.py", {"bench", "growth", "story"}, {"distil", "int8", "verify"}),
        ("exporters/tasks/answering.py", {"bench", "growth", "story"}, {"distil", "int8", "verify"}),
        ("benchmarks/speed/footprint.py", {"bench", "growth"}, {"distil", "int8", "verify"}),
        ("benchmarks/speed/server.py", {"bench"}, {"distil", "int8", "verify"}),
        ("compressor/models/bulk.py", {"vectors", "multilingual"}, {"pca", "export", "int8"}),
        ("compressor/vectors/similarities.py", {"distil", "pca", "ranges"}, {"vectors", "export", "int8"}),
        ("exporters/verify/conformance.py", {"publish", "fp16"}, {"int8", "verify", "export"}),
        ("compressor/artifact/cases.py", {"publish", "fp16"}, {"distil", "int8", "verify", "export", "search"}),
        ("exporters/graph/consumers.py", {"export", "optimise", "export-reader"}, {"distil", "pca"}),
        ("exporters/session.py", {"verify", "publish", "bench", "growth", "story", "export"}, {"distil", "pca"}),
        ("exporters/runtime/windows.py", {"verify", "publish", "bench"}, {"distil", "pca", "vectors", "finetune"}),
        (
            "compressor/answering/questions/windows.py",
            {"finetune", "distil-reader", "search-reader", "verify-reader", "bench"},
            {"distil", "int8", "search", "verify"},
        ),
        ("compressor/models/sentence_model.py", {"distil", "vectors", "pca", "export", "quantize"}, {"publish"}),
        ("exporters/foreign/adopt.py", set(), set(STAGES)),
        ("exporters/foreign/settings.py", set(), set(STAGES)),
        ("benchmarks/report/page.py", set(), set(STAGES)),
        ("benchmarks/report/numbers.py", set(), set(STAGES)),
        ("compressor/core/progress.py", set(), set(STAGES)),
        ("compressor/core/files.py", set(), set(STAGES)),
        ("compressor/core/errors.py", set(), set(STAGES)),
    ],
)
def test_an_edited_file_changes_the_keys_of_what_runs_it(
    edited: Any, file: str, changed: set[str], kept: set[str]
) -> None:
    found = edited(file, add_code)
    assert found >= changed
    assert not found & kept


@pytest.mark.parametrize(
    "file",
    [
        "exporters/precision/smooth.py",
        "compressor/models/bulk.py",
        "compressor/models/sentence_model.py",
        "compressor/vectors/pca.py",
        "benchmarks/speed/footprint.py",
    ],
)
def test_words_and_formatting_change_no_key(edited: Any, file: str) -> None:
    assert edited(file, lambda text: f"# a comment\n{text}\n\n# another\n") == set()
    assert edited(file, lambda text: re.sub(r'^( *)"""(?=\w)', r'\1"""Otherwise: ', text, flags=re.MULTILINE)) == set()
    assert edited(file, lambda text: ast.unparse(ast.parse(text))) == set()


def test_files_that_are_handed_out_count(edited: Any) -> None:
    for name in ("consumers.md", "card.md.j2"):
        assert edited(f"exporters/publish/templates/{name}", lambda text: text + "more") == {"publish"}
    assert "publish" in edited("compressor/artifact/runners/run.mjs", lambda text: text + "// more")


def test_keys_hang_neither_on_the_place_nor_on_the_order(copied: Path, before: dict[str, Any]) -> None:
    assert keys(ROOT) == before
    one, other = Sources.under(copied), Sources.under(copied)
    modules = list(STAGES.values())
    assert [one.key(m) for m in modules] == [other.key(m) for m in reversed(modules)][::-1]
    assert installed().key(*modules) == one.key(*modules)


def write(root: Path, **files: str) -> Sources:
    for package in PROJECT:
        (root / package).mkdir()
    for name, text in files.items():
        (root / "compressor" / f"{name}.py").write_text(text)
    return Sources.under(root)


def test_what_an_import_is(tmp_path: Path) -> None:
    sources = write(
        tmp_path,
        a="import os\nfrom compressor import b\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import g\n"
        "    from compressor import g\n",
        b="def f():\n    try:\n        import compressor.c\n    except ImportError:\n        from . import h\n",
        c="RUN = ['-m', 'compressor.d']\nNOT = 'compressor.nowhere, compressor.g'",
        d="from .e import x\nfrom compressor.core.errors import y\n",
        e="from pathlib import Path\nP = Path(__file__).with_name('f.py')",
        f="import numpy.typing, google.protobuf, missing_here, rich\nimport compressor.a",
        g="",
        h="match 1:\n    case 1:\n        import torch\n",
        errors="import onnx",
    )
    assert sources.closure("compressor.a") == {f"compressor.{name}" for name in "abcdefh"}
    used = sources.used(sources.closure("compressor.a"))
    assert set(used) == {"google", "missing_here", "numpy", "torch"}
    assert used["missing_here"] is None
    assert used["google"] is not None


def test_without_sources_the_release_stands_for_the_code(tmp_path: Path) -> None:
    sources = Sources({name: tmp_path / "archive.zip" / name for name in PROJECT})
    key = sources.key("compressor.vectors.pca")
    assert key["release"] == closure.versions()
    assert key["roots"] == ("compressor.vectors.pca",)


def test_packages_of_another_name_are_found() -> None:
    """Every package that a stage imports is one that is installed, or one that is optional."""
    sources = installed()
    used = sources.used(sources.closure(*STAGES.values()))
    assert {name for name, version in used.items() if version is None} == set()


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Upgrade a package; return the keys of stages before and after."""

    def upgrade(package: str) -> set[str]:
        found, sources = {}, installed()
        for release in (None, "99"):
            real = closure.version
            with monkeypatch.context() as patch:
                patch.setattr(closure, "version", lambda name: release if release and name == package else real(name))  # noqa: B023
                closure._version.cache_clear()
                found[release] = keys(ROOT, sources)
            closure._version.cache_clear()
        return {stage for stage in STAGES if found[None][stage] != found["99"][stage]}

    return upgrade


def test_packages_count_where_they_are_used(upgraded: Any) -> None:
    torch, runtime, scipy = upgraded("torch"), upgraded("onnxruntime"), upgraded("scipy")
    assert {"distil", "pca", "vectors", "export", "quantize", "finetune"} <= torch
    assert {"optimise", "int8", "search", "verify", "bench", "fp16"} <= runtime
    assert not runtime & {"distil", "multilingual", "pca", "vectors", "ranges", "quantize", "finetune"}
    assert "pca" in scipy
    assert not scipy & {"int8", "vectors", "quantize"}
    assert {"distil", "pca", "vectors", "export"} <= upgraded("tokenizers")
    assert upgraded("numpy") >= set(STAGES) - {"quantize"} - {"publish"}
    assert upgraded("rich") == upgraded("pydantic") == upgraded("psutil") - {"bench", "growth"} == set()


def test_what_is_left_out_is_there() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "compressor").rglob("*.py")}
    assert modules | set(PROJECT) >= LEFT_OUT


def test_what_the_machine_decides_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = {
        "search": Search(),
        "any": Search(cpu="any"),
        "distil": Distil(),
        "fp32": Distil(precision="fp32"),
        "int8": OnnxInt8(),
        "pca": Pca(),
    }
    found = []
    for own in (["avx2"], ["avx2", "amx_bf16"]):
        for module in {sys.modules[kind.__module__] for one in configs.values() for kind in type(one).__mro__}:
            if hasattr(module, "features"):
                monkeypatch.setattr(module, "features", lambda own=own: own)
        monkeypatch.setattr("compressor.machine.describe.features", lambda own=own: own)
        found.append({name: stage_key(name, config, []) for name, config in configs.items()})
    assert {name for name in configs if found[0][name] != found[1][name]} == {"search", "distil"}


def test_a_missing_package_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(closure, "version", missing)
    assert closure._version.__wrapped__("torch") is None


def test_export_is_keyed_by_both_of_its_configurations() -> None:
    def key(export: Export, optimise: Optimise) -> str:
        return stage_key("optimise", optimise, [Key(stage_key("export", export, [Key("model")]))])

    changed = next(name for name, field in Optimise.model_fields.items() if field.annotation is bool)
    other = Optimise.model_validate({changed: not getattr(Optimise(), changed)})
    assert len({key(Export(), Optimise()), key(Export(opset=18), Optimise()), key(Export(), other)}) == 3
    assert stages.stage_key is stage_key
