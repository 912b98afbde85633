"""A model that OpenSearch's ml-commons runs in the cluster: the archive, and the request that registers it."""

import json
import zipfile
from pathlib import Path

from onnx import TensorProto, helper
from pydantic import Field
from tokenizers import Tokenizer

from compressor.artifact.folder import Artifact, Draft, sha256
from compressor.artifact.layout import EMBEDDING
from compressor.artifact.prompts import DOCUMENT, QUERY, Prompts, kept_prompts
from compressor.core.errors import ArtifactError
from exporters.pack.target import Contents, Target, check_name, renamed_states, write_text
from exporters.runtime.words import cutting_side

REGISTER = "register.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can state
_TYPED = ("bert", "albert")  # the types of model that OpenSearch feeds token_type_ids


class OpenSearch(Target):
    """A model that OpenSearch runs in the cluster: the archive, and the request that registers it."""

    name: str | None = None
    """Name of the model. By default that of the recipe and the precision."""
    version: str = Field(default="1.0.0", pattern=r"^[0-9A-Za-z.-]+$")
    """Version of the model."""
    url: str | None = None
    """Where the cluster will find the archive. By default it is left out, to be uploaded in chunks."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write ``<name>-<version>.zip`` and ``register.json``."""
        contents = Contents.read(artifact, "opensearch")
        prompts = kept_prompts(artifact.folder)
        if prompts.default:
            raise ArtifactError(f"{artifact.folder}: has a default prompt, which opensearch puts before no text")
        name = check_name(self.name or contents.name, r"[\w.-]+", "letters, digits, dots, dashes and underscores")
        config = contents.json("config.json")
        length = int(contents.json("sentence_bert_config.json")["max_seq_length"])
        archive = draft.folder / f"{name}-{self.version}.zip"
        files = {"model.onnx": pooled_by_any(contents), "tokenizer.json": _tokenizer(contents, length)}
        _write_zip(archive, files)
        typed = any(tensor.name == "token_type_ids" for tensor in contents.inputs)
        stated = str(config.get("model_type"))
        request = {
            "name": name,
            "version": self.version,
            "description": f"Sentence embeddings of length {contents.dim}, {contents.precision}",
            "function_name": "TEXT_EMBEDDING",
            "model_task_type": "TEXT_EMBEDDING",
            "model_format": "ONNX",
            "model_content_size_in_bytes": archive.stat().st_size,
            "model_content_hash_value": sha256(archive),
            "model_config": {
                "model_type": _model_type(stated, typed),
                "embedding_dimension": contents.dim,
                "framework_type": "sentence_transformers",
                "pooling_mode": "CLS",
                "normalize_result": False,
                "model_max_length": length,
                "all_config": json.dumps(config, sort_keys=True),
                **_prefixes(prompts),
            },
        }
        if self.url:
            request["url"] = self.url
        write_text(draft.folder / REGISTER, json.dumps(request, indent=2) + "\n")
        by = "opensearch, by content_type" if _prefixes(prompts) else "the caller"
        draft.figures["needs"] = contents.needs(by, server="opensearch", plugin="ml-commons")


def pooled_by_any(contents: Contents) -> bytes:
    """Return a graph whose only output is every text's vector, repeated at each of its tokens.

    OpenSearch pools a graph's first output itself and knows nothing of a Dense layer behind the pooling. Of equal
    rows, its mean and its first token are both the vector.
    """
    model, _ = renamed_states(contents.model)
    graph, (states, vector) = model.graph, EMBEDDING
    constants = {"pack_axis": [1], "pack_one": [1]}
    for name, value in constants.items():
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], value))
    graph.node.extend(
        [
            helper.make_node("Unsqueeze", [vector, "pack_axis"], ["pack_vector"], "pack_vector"),
            helper.make_node("Shape", ["input_ids"], ["pack_length"], "pack_length", start=1, end=2),
            helper.make_node("Concat", ["pack_one", "pack_length", "pack_one"], ["pack_shape"], "pack_shape", axis=0),
            helper.make_node("Expand", ["pack_vector", "pack_shape"], [states], "pack_repeat"),
        ]
    )
    del graph.output[:]
    axes: list[str | int | None] = ["batch_size", "sequence_length", contents.dim]
    graph.output.append(helper.make_tensor_value_info(states, TensorProto.FLOAT, axes))
    return model.SerializeToString(deterministic=True)


def _prefixes(prompts: Prompts) -> dict[str, str]:
    """Return what OpenSearch puts before queries and passages; with any, it asks of each text which it is."""
    roles = {"query_prefix": QUERY, "passage_prefix": DOCUMENT}
    chosen = {field: prompts.choose(prompts.first(names)) for field, names in roles.items()}
    return {field: prompt for field, prompt in chosen.items() if prompt}


def _model_type(stated: str, typed: bool) -> str:
    """Return the type by which OpenSearch feeds what the graph takes."""
    if typed:
        return stated if stated in _TYPED else "bert"
    return "distilbert" if stated in _TYPED else stated


def _tokenizer(contents: Contents, length: int) -> bytes:
    """Return the tokenizer with the model's length in it, which OpenSearch reads nowhere else."""
    try:
        tokenizer = Tokenizer.from_file(str(contents.folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare Exception
        raise ArtifactError(f"{contents.folder / 'tokenizer.json'}: not readable as a tokenizer") from error
    tokenizer.enable_truncation(length, direction=cutting_side(tokenizer))
    return str(tokenizer.to_str()).encode()


def _write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write an archive that depends on nothing but its files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
