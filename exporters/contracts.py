"""What consumers that do not run here ask of an encoder's artifact, as rules: names, order, ranks, types, files.

The needs of TEI, Vespa, OpenSearch, Semantic Kernel, LangChain4j, Spring AI and ONNX Runtime Mobile, as their sources
and documentation state them. A complaint names the file, what is there and what the consumer takes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, ValueInfoProto
from onnx.external_data_helper import uses_external_data

from compressor.artifact.layout import EMBEDDING, GRAPH, INPUTS
from compressor.core.errors import ArtifactError
from compressor.core.strict_json import read_json
from exporters.graph.files import load

OUTPUTS = tuple(zip(EMBEDDING, (3, 2), strict=True))
DOMAINS = ("", "ai.onnx", "com.microsoft")
_LEGACY = "sentence_transformers.models."
_POOLING = "1_Pooling/config.json"


@dataclass(frozen=True)
class Folder:
    """An artifact folder, each part read when a rule asks for it."""

    path: Path

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The graph, without data that lies in other files."""
        return load(self.path / GRAPH, weights=False)

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str) -> Any:
        """Return what a JSON file holds; nothing where there is none."""
        if not self.has(name):
            return {}
        try:
            return read_json(self.path / name)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{self.path / name}: not readable as JSON: {error}") from error

    @property
    def modules(self) -> list[str]:
        """Names of the modules' types."""
        return [str(entry.get("type", "")) for entry in self.read("modules.json") or []]

    @property
    def pooling(self) -> list[str]:
        """The pooling modes that are on, by their legacy keys."""
        return [key for key, on in self.read(_POOLING).items() if key.startswith("pooling_mode_") and on is True]


Rule = Callable[[Folder], Iterator[str]]


def inputs(folder: Folder) -> Iterator[str]:
    """Three inputs by name, int64, both dimensions free."""
    names = [value.name for value in folder.model.graph.input]
    if names != list(INPUTS):
        yield f"{GRAPH}: inputs {', '.join(names)}; taken are {', '.join(INPUTS)}"
    for value in folder.model.graph.input:
        dims = _dims(value)
        if value.type.tensor_type.elem_type != TensorProto.INT64:
            yield f"{GRAPH}: input {value.name} is {_type(value)}; taken is INT64"
        if len(dims) != 2 or any(isinstance(dim, int) for dim in dims):
            yield f"{GRAPH}: input {value.name} is {dims}; taken is [batch_size, sequence_length], both free"


def outputs(folder: Folder) -> Iterator[str]:
    """last_hidden_state first and sentence_embedding second, by rank."""
    ranks = [(value.name, len(_dims(value))) for value in folder.model.graph.output]
    if ranks != list(OUTPUTS):
        listed = ", ".join(f"{name} of rank {rank}" for name, rank in ranks)
        yield f"{GRAPH}: outputs {listed}; taken are " + ", ".join(f"{name} of rank {rank}" for name, rank in OUTPUTS)


def output_types(folder: Folder) -> Iterator[str]:
    """Outputs are float32, whatever the weights are."""
    for value in folder.model.graph.output:
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            yield f"{GRAPH}: output {value.name} is {_type(value)}; taken is FLOAT"


def static_width(folder: Folder) -> Iterator[str]:
    """The last dimension of every output is a number: consumers size their index by it."""
    for value in folder.model.graph.output:
        dims = _dims(value)
        if not dims or not isinstance(dims[-1], int):
            yield f"{GRAPH}: output {value.name} is {dims}; its last dimension must be a number"


def one_file(folder: Folder) -> Iterator[str]:
    """All weights lie in the graph's own file."""
    outside = [tensor.name for tensor in folder.model.graph.initializer if uses_external_data(tensor)]
    if outside:
        yield f"{GRAPH}: {outside[0]} lies in another file (external data); taken is one file"


def operators(folder: Folder) -> Iterator[str]:
    """Only operators that every full build of ONNX Runtime has."""
    for domain in sorted({node.domain for node in folder.model.graph.node} - set(DOMAINS)):
        yield f"{GRAPH}: operators of the domain {domain}; taken are {', '.join(DOMAINS[1:])}"


def tokenizer(folder: Folder) -> Iterator[str]:
    """tokenizer.json, which cuts texts at the model's length."""
    if not folder.has("tokenizer.json"):
        yield "tokenizer.json: not there"
        return
    length = folder.read("sentence_bert_config.json").get("max_seq_length")
    cut = (folder.read("tokenizer.json").get("truncation") or {}).get("max_length")
    if length and cut != length:
        yield f"tokenizer.json: cuts at {cut}; max_seq_length is {length}"


def cuts_on_the_right(folder: Folder) -> Iterator[str]:
    """Long texts lose their end, not their beginning: consumers set the side themselves, or know no other."""
    side = (folder.read("tokenizer.json").get("truncation") or {}).get("direction", "Right")
    if side != "Right":
        yield f"tokenizer.json: cuts texts on the {str(side).lower()}; this consumer cuts them on the right"


def finite_length(folder: Folder) -> Iterator[str]:
    """tokenizer_config.json states one finite length, the model's."""
    settings = folder.read("tokenizer_config.json")
    length, limit = settings.get("model_max_length"), folder.read("sentence_bert_config.json").get("max_seq_length")
    if not _is_length(length):
        yield f"tokenizer_config.json: model_max_length = {length}; taken is a whole number up to {1 << 20}"
    elif limit and length != limit:
        yield f"tokenizer_config.json: model_max_length = {length}; max_seq_length is {limit}"
    if settings.get("max_length", length) != length:
        yield f"tokenizer_config.json: max_length = {settings['max_length']}; model_max_length is {length}"


def sequence_length(folder: Folder) -> Iterator[str]:
    """sentence_bert_config.json states the length at which texts are cut."""
    length = folder.read("sentence_bert_config.json").get("max_seq_length")
    if not _is_length(length):
        yield f"sentence_bert_config.json: max_seq_length = {length}; taken is a whole number up to {1 << 20}"


def vocabulary(folder: Folder) -> Iterator[str]:
    """vocab.txt, whose line numbers are the ids of a WordPiece tokenizer."""
    if not folder.has("vocab.txt"):
        yield "vocab.txt: not there: compressor pack --target vocab-txt writes it"
        return
    model = folder.read("tokenizer.json").get("model", {})
    if model and model.get("type") != "WordPiece":
        yield f"tokenizer.json: a {model.get('type')} model; taken is WordPiece"
        return
    lines = (folder.path / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, token in enumerate(lines):
        if model and model["vocab"].get(token) != number:
            yield f"vocab.txt: line {number} is {token}; in tokenizer.json its id is {model['vocab'].get(token)}"
            return


def legacy_modules(folder: Folder) -> Iterator[str]:
    """modules.json names modules as releases before 6 did."""
    if not folder.modules:
        yield "modules.json: not there"
    for name in folder.modules:
        if not name.startswith(_LEGACY) or "." in name.removeprefix(_LEGACY):
            yield f"modules.json: type {name}; taken is {_LEGACY}*"


def legacy_pooling(folder: Folder) -> Iterator[str]:
    """1_Pooling/config.json has exactly one of the boolean keys on."""
    if len(folder.pooling) != 1:
        on = ", ".join(folder.pooling) or "none"
        yield f"{_POOLING}: pooling_mode_* keys that are on: {on}; taken is exactly one"


def pools_by_itself(folder: Folder) -> Iterator[str]:
    """Pooling last_hidden_state by mean or CLS, as the consumer does itself, gives the model's vectors."""
    for key in folder.pooling:
        if key not in ("pooling_mode_mean_tokens", "pooling_mode_cls_token"):
            yield f"{_POOLING}: {key}; this consumer pools by itself, by mean or CLS"
    if any(name.endswith(".Dense") for name in folder.modules):
        yield (
            "modules.json: a Dense after the pooling; this consumer pools last_hidden_state itself and leaves it out: "
            "compressor pack --target token-embeddings puts it before the pooling"
        )


def no_default_prompt(folder: Folder) -> Iterator[str]:
    """No text stands before every text: only sentence-transformers puts one there."""
    usage = folder.read("config_sentence_transformers.json")
    name = usage.get("default_prompt_name")
    if name and (usage.get("prompts") or {}).get(name):
        yield f"config_sentence_transformers.json: default prompt {name}; this consumer puts none before a text"


_GRAPH: tuple[Rule, ...] = (inputs, outputs, output_types, static_width, one_file, operators)
_TEXTS: tuple[Rule, ...] = (cuts_on_the_right, no_default_prompt)
_POOLS: tuple[Rule, ...] = (*_GRAPH, tokenizer, pools_by_itself, *_TEXTS)

CONSUMERS: dict[str, tuple[Rule, ...]] = {
    # Takes sentence_embedding where there is one; parses the module list and pooling before it gets that far.
    "TEI": (*_GRAPH, tokenizer, finite_length, sequence_length, legacy_modules, legacy_pooling, *_TEXTS),
    "Vespa": _POOLS,
    "OpenSearch": _POOLS,
    "Semantic Kernel": (*_GRAPH, vocabulary, pools_by_itself, *_TEXTS),
    "LangChain4j": _POOLS,
    "Spring AI": _POOLS,
    # ONNX Runtime Mobile: the caller tokenizes, and names outputs. A reader goes there by pack --target ort.
    "Android": (*_GRAPH, tokenizer, *_TEXTS),
    "iOS": (*_GRAPH, tokenizer, *_TEXTS),
}
RULES = tuple(dict.fromkeys(rule for rules in CONSUMERS.values() for rule in rules))


def check(folder: Path) -> dict[str, list[str]]:
    """Return the complaints of each consumer about an artifact folder, none where it can serve it.

    Raises ArtifactError where a file cannot be read.
    """
    opened = Folder(folder)
    if not opened.has(str(GRAPH)):
        raise ArtifactError(f"{folder / GRAPH}: no such file")
    complaints = {rule: list(rule(opened)) for rule in RULES}
    return {name: [line for rule in rules for line in complaints[rule]] for name, rules in CONSUMERS.items()}


def _dims(value: ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]


def _type(value: ValueInfoProto) -> str:
    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type))


def _is_length(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and 0 < value <= 1 << 20
