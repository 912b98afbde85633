"""A folder of others in this project's form: the same graph, with what its settings put behind it, behind it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx

from compressor.artifact.folder import Draft
from compressor.artifact.layout import EMBEDDING, GRAPH
from compressor.core.errors import ArtifactError, ModelError, first_line
from compressor.models.pooling import FLAGS, Pooling
from compressor.untrusted.graph import FOREIGN
from compressor.untrusted.inspector import Inspector, described
from compressor.untrusted.settings import check_json
from exporters.foreign.find import Foreign
from exporters.foreign.graph import rewrite
from exporters.foreign.opset import to_opset
from exporters.foreign.settings import Dense, Stated, read_settings
from exporters.graph.consumers import compact
from exporters.graph.files import load, require_fp32

_COPIED = ("special_tokens_map.json",)
_CALLED = ("prompts", "default_prompt_name", "similarity_fn_name")
_ASIDE = "compressor-foreign-"
_MODULES = "sentence_transformers.models."


@dataclass(frozen=True)
class Adopted:
    """What is known of a graph of others, once it was looked at in a process apart."""

    stated: Stated
    operators: dict[str, int]
    precision: str
    """What its matrices are stored in, as ``untrusted.graph.precision_of`` tells it."""
    widths: dict[str, int]
    """The outputs that are read, and the length of a vector of each."""

    @property
    def pools_itself(self) -> bool:
        """Whether the graph gives a vector a text itself, which is then taken as it comes."""
        return EMBEDDING[1] in self.widths

    def described(self) -> str:
        """Say in a few words what makes a text's vector."""
        if not self.pools_itself:
            return self.stated.described()
        dim = self.stated.dim
        cut = f", the first {dim}" if dim is not None and dim < self.widths[EMBEDDING[1]] else ""
        return f"in the graph ({EMBEDDING[1]}){cut}"


def examine(foreign: Foreign, pooling: Pooling | None = None) -> Adopted:
    """Check settings, tokenizer and graph before anything of them is used; ModelError or ArtifactError at a fault.

    The graph and the tokenizer are opened in a process of bounded memory and time, as those of an artifact are.
    """
    stated = read_settings(foreign.folder, pooling)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (stated.part / name).is_file():
            check_json(stated.part / name)
    tokenizer = _tokenizer_of(foreign, stated)
    length = {"stated": f"{foreign.folder}: max_seq_length", "tokens": stated.max_length}
    with Inspector() as inspector:
        wanted = {"graph": described(foreign.graph), "tokenizer": described(tokenizer)}
        found = inspector.ask(foreign.graph, wanted, FOREIGN, length=length)
    return Adopted(stated, found["operators"], found["precision"], found["widths"])


def adopt(foreign: Foreign, to: Path, pooling: Pooling | None = None) -> Adopted:
    """Write the graph in this project's form into the folder ``to``, as it is but for what follows its tokens.

    Inputs and outputs have this project's names, and of further outputs there are none.
    """
    known = examine(foreign, pooling)
    model = load(foreign.graph)
    try:
        rewrite(model, known.stated, known.widths)
    except ModelError as error:
        raise ModelError(f"{foreign.folder}: {error}") from error
    (to / GRAPH).parent.mkdir(parents=True)
    onnx.save(model, to / GRAPH)
    _write_folder(foreign, known, to)
    return known


@contextmanager
def adopted(foreign: Foreign, pooling: Pooling | None = None) -> Iterator[tuple[Path, Adopted]]:
    """Give a folder that holds the graph in this project's form, gone when the body ends, and what is known of it."""
    with TemporaryDirectory(prefix=_ASIDE) as aside:
        folder = Path(aside) / (foreign.folder.resolve().name or "graph")
        folder.mkdir()
        yield folder, adopt(foreign, folder, pooling)


@contextmanager
def fp32_artifact(foreign: Foreign, pooling: Pooling | None = None) -> Iterator[Path]:
    """Give an fp32 artifact of the graph, gone when the body ends: of a known opset, and fused where its family is.

    It has a conformance set, so that what is made of it gets its own. ArtifactError for a graph that is not fp32, that
    gives no vector a token, or that cannot be brought to such an opset.
    """
    from exporters.verify.conformance import write_conformance

    with adopted(foreign, pooling) as (plain, known), TemporaryDirectory(prefix=_ASIDE) as aside:
        require_fp32(foreign.graph, "int8 and fp16 are made")
        if list(known.widths) == [EMBEDDING[1]]:
            raise ArtifactError(f"{foreign.graph}: gives {EMBEDDING[1]} alone; an artifact gives {EMBEDDING[0]}, too")
        to_opset(plain / GRAPH, foreign.graph)
        folder = Path(aside) / plain.name
        folder.mkdir()
        _fuse(plain, folder, foreign)
        write_conformance(folder)
        yield folder


def _fuse(plain: Path, folder: Path, foreign: Foreign) -> None:
    """Write the fused form; a family that transformers does not know has no facts to fuse by, and stays as it is."""
    from transformers import CONFIG_MAPPING, AutoConfig

    from exporters.graph.optimise import Optimise

    if check_json(plain / "config.json")["model_type"] not in CONFIG_MAPPING:
        shutil.copytree(plain, folder, dirs_exist_ok=True)
        return
    try:
        AutoConfig.from_pretrained(plain, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a stranger's settings: the library raises whatever it runs into
        raise ModelError(f"{foreign.folder}: config.json cannot be read: {first_line(error)}") from error
    Optimise().run(plain, Draft(folder))


def _tokenizer_of(foreign: Foreign, stated: Stated) -> Path:
    places = [folder / "tokenizer.json" for folder in (stated.part, foreign.folder)]
    if path := next((path for path in places if path.is_file()), None):
        return path
    raise ModelError(f"{places[0]}: not there; texts are cut into tokens by it")


def _write_folder(foreign: Foreign, known: Adopted, to: Path) -> None:
    """Write what stands beside the graph: settings of known fields, in the spelling that all loaders know."""
    width = next(iter(known.widths.values()))
    stated = known.stated.cut(width)
    for name in _COPIED:
        if (stated.part / name).is_file():
            shutil.copyfile(stated.part / name, to / name)
    _write(to / "config.json", dict(stated.config))
    _write(to / "sentence_bert_config.json", {"max_seq_length": stated.max_length, "do_lower_case": False})
    _write_tokenizer(_tokenizer_of(foreign, stated), stated, to)
    usage = foreign.folder / "config_sentence_transformers.json"
    said = check_json(usage) if usage.is_file() else {}
    _write(to / usage.name, {name: said.get(name) for name in _CALLED} | {"prompts": said.get("prompts") or {}})
    entries = [{"idx": 0, "name": "0", "path": "", "type": f"{_MODULES}Transformer"}]
    modules: list[tuple[str, Dense | None]] = [("Pooling", None), *_named(stated)]
    for index, (kind, module) in enumerate(modules, start=1):
        path = f"{index}_{kind}"
        entries.append({"idx": index, "name": str(index), "path": path, "type": f"{_MODULES}{kind}"})
        (to / path).mkdir()
        if kind == "Pooling":
            _write(to / path / "config.json", _pooling(stated, width))
        elif module is not None:
            module.save(to / path)
    _write(to / "modules.json", entries)


def _named(stated: Stated) -> list[tuple[str, Dense | None]]:
    return [("Normalize" if step is None else "Dense", step) for step in stated.steps]


def _pooling(stated: Stated, width: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"word_embedding_dimension": width}
    settings |= {flag: mode in stated.modes for mode, flag in FLAGS.items()}
    if stated.modes != tuple(mode for mode in FLAGS if mode in stated.modes):
        settings["pooling_mode"] = list(stated.modes)  # another order, which only newer loaders know
    return settings | {"include_prompt": stated.include_prompt}


def _write_tokenizer(path: Path, stated: Stated, to: Path) -> None:
    """Write tokenizer.json that cuts at the length and pads nothing, and the settings beside it with that length."""
    tokens, settings = check_json(path), stated.part / "tokenizer_config.json"
    said = check_json(settings) if settings.is_file() else {}
    side = said.get("truncation_side") or (tokens.get("truncation") or {}).get("direction", "Right")
    cut = {"direction": str(side).title(), "strategy": "LongestFirst", "max_length": stated.max_length, "stride": 0}
    if stated.lower:
        tokens["normalizer"] = _lowered(tokens.get("normalizer"))
    (to / "tokenizer.json").write_text(compact(tokens | {"truncation": cut, "padding": None}), encoding="utf-8")
    if said:
        kept = {name: value for name, value in said.items() if name != "max_length"}  # which some loaders cut at
        _write(to / settings.name, kept | {"model_max_length": stated.max_length})


def _lowered(normalizer: Any) -> Any:
    """Return a normalizer that writes small letters first, as sentence-transformers adds it."""
    parts = normalizer["normalizers"] if (normalizer or {}).get("type") == "Sequence" else [normalizer]
    parts = [part for part in parts if part is not None]
    if any(part.get("type") == "Lowercase" for part in parts):
        return normalizer
    return {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *parts]}


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
