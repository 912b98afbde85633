"""What an artifact says of itself goes with its views and with what is made of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, refusal
from graphs import draft, quantize
from packed import view

from benchmarks.inspect import facts
from compressor.artifact.allowed import check_names
from compressor.artifact.copying import copy_artifact
from compressor.artifact.folder import Artifact, read_manifest, writing
from compressor.artifact.layout import GRAPH
from compressor.artifact.manifest import KEPT, handed_on, own_manifest, recipe_of
from compressor.core.errors import ArtifactError
from compressor.machine.describe import features
from exporters.precision.products import integer_products
from exporters.runtime import providers
from exporters.runtime.prefixes import vector_lengths
from exporters.runtime.running import Running
from exporters.server.run import named
from exporters.verify.check import _kept_products

RUNNING = Running(batch_tokens=64, equal_lengths=True)
RECIPE = {"name": "nested", "distil": {"matryoshka": [4, 8]}, "int8": {"reduce_range": True}}
VIEWS = ("vocab-txt", "token-embeddings", "hub")


def searched(source: Path, to: Path, precision: str, kept: object = 2) -> Path:
    """Copy an artifact as one of a Matryoshka student that a search chose the form of."""
    with writing(to, f"artifacts/{precision}", f"key of {precision}", {"recipe": RECIPE}) as draft:
        copy_artifact(source, draft.folder)
        draft.figures["choice"] = {
            "cpu": "a CPU", "cpu_features": features(), "running": RUNNING.as_dict(), "kept_products": kept,
        }  # fmt: skip
    return to


@pytest.fixture(scope="module")
def made(sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("searched")
    seven = quantize(sealed / "fp32", draft(home / "seven"), reduce_range=True)
    searched(sealed / "fp32", home / "fp32", "fp32")
    searched(seven, home / "int8", "int8")
    return home


@pytest.fixture(scope="module")
def packed(made: Path) -> Callable[[str], Path]:
    """Pack the int8 artifact for a target, each once."""

    def pack_once(name: str) -> Path:
        to = made / name
        return to if to.exists() else view(made / "int8", to, name, **({"license": "mit"} if name == "hub" else {}))

    return pack_once


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_called_cut_run_and_judged_as_the_artifact(
    name: str, made: Path, packed: Callable[[str], Path]
) -> None:
    folder = packed(name)
    assert read_manifest(folder)["stage"] == f"pack/{name}"
    assert own_manifest(folder) == read_manifest(made / "int8")
    assert vector_lengths(folder, 16) == (8, 4)
    assert named([str(folder)]) == {"nested": folder}
    assert Running.load(folder) == RUNNING
    assert providers._seven_bits(folder)
    assert _kept_products(folder) == 2
    assert facts(folder)["form"].startswith("searched for a CPU with onnxruntime ")
    opened = Artifact.open(folder)
    check_names(folder, opened.manifest)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_products_of_the_artifact(name: str, made: Path, packed: Callable[[str], Path]) -> None:
    assert integer_products(packed(name) / GRAPH) == integer_products(made / "int8" / GRAPH)


def test_a_reader_for_javascript_keeps_it_where_it_is_run_here(reader: Path, tmp_path: Path) -> None:
    made = searched(reader / "fp32", tmp_path / "made", "fp32")
    folder = view(made, tmp_path / "view", "javascript")
    assert own_manifest(folder) == read_manifest(made)
    assert Running.load(folder) == RUNNING
    check_names(folder, Artifact.open(folder).manifest)
    assert not (view(reader / "int8", tmp_path / "int8", "javascript") / KEPT).exists()  # no graph that is opened here


def test_a_view_of_an_earlier_release_has_its_own_alone(packed: Callable[[str], Path], tmp_path: Path) -> None:
    with writing(tmp_path / "view", "pack/vocab-txt", "key") as draft:
        copy_artifact(packed("vocab-txt"), draft.folder)
    assert own_manifest(tmp_path / "view") == read_manifest(tmp_path / "view")
    check_names(tmp_path / "view", read_manifest(tmp_path / "view"))


def test_what_is_made_of_an_artifact_is_of_its_recipe(made: Path, tmp_path: Path, command: Command) -> None:
    status, _, err = command("fp16", made / "fp32", "--out", tmp_path / "fp16")
    assert status == 0, err
    stated = read_manifest(tmp_path / "fp16")
    assert recipe_of(stated) == {"name": "nested", "distil": {"matryoshka": [4, 8]}}  # its weights have no 7 bits
    assert stated["config"]["cosine_min"] == 0.999
    assert not providers._seven_bits(tmp_path / "fp16")
    assert vector_lengths(tmp_path / "fp16", 16) == (8, 4)
    assert named([str(tmp_path / "fp16")]) == {"nested": tmp_path / "fp16"}
    assert "choice" not in stated["figures"]  # which is of the form that was searched
    Artifact.open(tmp_path / "fp16")


def test_int8_of_a_view_is_of_its_artifacts_recipe(made: Path, tmp_path: Path, command: Command, texts: Path) -> None:
    source = view(made / "fp32", tmp_path / "view", "vocab-txt")
    status, _, err = command("quantize", source, "--out", tmp_path / "int8", "--texts", texts, "--reduce-range", "true")
    assert status == 0, err
    assert recipe_of(read_manifest(tmp_path / "int8"))["name"] == "nested"
    assert providers._seven_bits(tmp_path / "int8")
    assert not (tmp_path / "int8" / KEPT).exists()
    check_names(tmp_path / "int8", Artifact.open(tmp_path / "int8").manifest)


def test_a_folder_without_a_recipe_hands_none_on(sealed: Path, tmp_path: Path) -> None:
    assert handed_on(tmp_path) == {}
    with writing(tmp_path / "made", "stage", "key", {"recipe": {"int8": {}}}):
        pass
    assert handed_on(tmp_path / "made") == {}
    with writing(tmp_path / "bare", "stage", "key"):
        pass
    assert handed_on(tmp_path / "bare") == {}


@pytest.mark.parametrize("kept", ["2", -1, 1.5, True, None])
def test_products_that_are_no_count_are_named(sealed: Path, tmp_path: Path, kept: object) -> None:
    folder = searched(sealed / "int8", tmp_path / "made", "int8", kept)
    with pytest.raises(ArtifactError) as caught:
        _kept_products(folder)
    wanted = f"figures.choice.kept_products = {kept!r}: must be a whole number from 0"
    assert str(caught.value) == f"{folder / 'manifest.json'}: {wanted}"


def test_a_kept_manifest_is_read_as_any(packed: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(packed("vocab-txt"), tmp_path / "view"))
    stated = json.loads((folder / KEPT).read_text())
    del stated["figures"]
    (folder / KEPT).write_text(json.dumps(stated))
    with pytest.raises(ArtifactError, match=rf"^{folder / KEPT}: damaged, no figures$"):
        own_manifest(folder)


def test_what_lies_beside_an_artifact_is_no_part_of_what_is_made_of_it(
    made: Path, tmp_path: Path, command: Command
) -> None:
    source = Path(shutil.copytree(made / "fp32", tmp_path / "source"))
    (source / ".DS_Store").write_text("x")
    (source / ".git").mkdir()
    (source / ".git" / "HEAD").write_text("x")
    assert command("fp16", source, "--out", tmp_path / "fp16")[0] == 0
    opened = Artifact.open(tmp_path / "fp16")
    check_names(opened.folder, opened.manifest)
    (tmp_path / "secret").write_text("secret")
    (source / "vocab.txt").symlink_to("../secret")
    line = refusal(command("fp16", source, "--out", tmp_path / "other"))
    assert line == f"error: {source / 'vocab.txt'}: a symbolic link; files of an artifact are plain"
    assert not (tmp_path / "other").exists()
