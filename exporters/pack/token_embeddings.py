"""An artifact for consumers that pool token embeddings themselves and know nothing of a Dense behind the pooling."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from compressor.artifact.cases import TEXTS
from compressor.artifact.folder import MANIFEST, Artifact, Draft
from compressor.artifact.layout import EMBEDDING, GRAPH, TAIL
from compressor.core.encoder import Vectors
from compressor.core.errors import ArtifactError
from compressor.models.agreement import normalized
from exporters import contracts
from exporters.pack.target import Contents, Target, copy_files, renamed_states, write_text
from exporters.pack.vocab_txt import write_vocabulary
from exporters.runtime.providers import CPU, open_session
from exporters.session import OnnxEncoder

DIFFERENCE_MAX = 1e-5
_MODULES, _POOLING = "modules.json", "1_Pooling/config.json"
_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_ACTIVATIONS = {"ReLU": "Relu", "Sigmoid": "Sigmoid", "Tanh": "Tanh"}  # of PyTorch, and ONNX's operators
_NOTE = """
`last_hidden_state` has the Dense of `{name}` in it: pooled by {pooling}{normalized}, it is `sentence_embedding`.
"""


class TokenEmbeddings(Target):
    """An artifact for those who pool token embeddings themselves: its Dense stands before the pooling."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write the artifact with its Dense moved into ``last_hidden_state``, and no Dense in its module list.

        A linear layer of a mean is the mean of the layer: mean(x) W + b = mean(x W + b). Of the first token it may be
        any. ArtifactError where it is neither, where the pooled vectors differ from the artifact's by more than
        DIFFERENCE_MAX, or where none of those consumers can take the result.
        """
        contents = Contents.read(artifact, "token-embeddings")
        tail = _Tail.read(contents)
        left_out = (*(f"{name}/" for name in tail.folders), _MODULES, _POOLING, GRAPH.as_posix(), "README.md", MANIFEST)
        copy_files(artifact, draft, [name for name in artifact.manifest["files"] if not name.startswith(left_out)])
        tail.write_modules(draft.folder)
        write_vocabulary(draft.folder)  # Semantic Kernel, who pools by itself, reads no other file
        (draft.folder / GRAPH).parent.mkdir(parents=True)
        (draft.folder / GRAPH).write_bytes(tail.moved().SerializeToString(deterministic=True))
        write_text(draft.folder / "README.md", tail.card())
        draft.figures["largest_difference"] = tail.difference(draft.folder)
        draft.figures["serves"] = _served(draft.folder)
        draft.figures["needs"] = contents.needs(pooling=tail.pooling, normalize=tail.normalize)


@dataclass(frozen=True)
class _Tail:
    """What follows the transformer: the pooling, the folders of Dense modules, and whether vectors are normalized."""

    contents: Contents
    pooling: str
    folders: Sequence[str]
    normalize: bool

    @classmethod
    def read(cls, contents: Contents) -> "_Tail":
        folder, path = contracts.Folder(contents.folder), contents.folder / _MODULES
        kinds = [name.rpartition(".")[2] for name in folder.modules]
        dense = [
            str(module["path"]) for module, kind in zip(folder.read(_MODULES), kinds, strict=True) if kind == "Dense"
        ]
        ends = kinds[2 + len(dense) :]
        if kinds != ["Transformer", "Pooling", *["Dense"] * len(dense), *ends] or ends not in ([], ["Normalize"]):
            raise ArtifactError(f"{path}: {', '.join(kinds)}; taken are Transformer, Pooling, Dense, Normalize")
        if not dense:
            raise ArtifactError(f"{path}: no Dense; who pools token embeddings takes it as it is")
        modes = [_MODES.get(key) for key in folder.pooling]
        if len(modes) != 1 or modes[0] is None:
            pooling = ", ".join(folder.pooling) or "no mode"
            raise ArtifactError(f"{contents.folder / _POOLING}: {pooling}; taken are mean or CLS")
        return cls(contents, modes[0], dense, bool(ends))

    def moved(self) -> onnx.ModelProto:
        """Return the graph with every Dense done to each token, too; ``sentence_embedding`` comes about as before."""
        model, states = renamed_states(self.contents.model)
        graph = model.graph
        steps = [step for folder in self.folders for step in self._dense(folder)]
        for number, (operator, stored) in enumerate(steps):
            inputs = [states]
            if stored is not None:
                inputs.append(f"pack_{number}_weight")
                graph.initializer.append(numpy_helper.from_array(stored, inputs[-1]))
            states = EMBEDDING[0] if number == len(steps) - 1 else f"pack_{number}_states"
            name = f"/{TAIL}.pack/{operator}_{number}"  # what follows the transformer stays in fp32
            graph.node.append(helper.make_node(operator, inputs, [states], name))
        axes: list[str | int | None] = ["batch_size", "sequence_length", self.contents.dim]
        graph.output[0].CopyFrom(helper.make_tensor_value_info(EMBEDDING[0], TensorProto.FLOAT, axes))
        return model

    def _dense(self, folder: str) -> list[tuple[str, Vectors | None]]:
        """Return a Dense as operators and what they take: MatMul by [in, out], Add of [out], an activation."""
        path = self.contents.folder / folder
        named = str(self.contents.json(f"{folder}/config.json").get("activation_function")).rpartition(".")[2]
        if named != "Identity" and (named not in _ACTIVATIONS or self.pooling == "mean"):
            raise ArtifactError(
                f"{path}: activation {named}; such a Dense cannot be moved before {self.pooling} pooling"
            )
        try:
            stored = load_file(path / "model.safetensors")
            steps: list[tuple[str, Vectors | None]] = [("MatMul", np.ascontiguousarray(stored["linear.weight"].T))]
        except Exception as error:  # safetensors has its own kinds
            raise ArtifactError(f"{path / 'model.safetensors'}: not readable as a Dense's weights") from error
        if "linear.bias" in stored:
            steps.append(("Add", stored["linear.bias"]))
        return steps if named == "Identity" else [*steps, (_ACTIVATIONS[named], None)]

    def write_modules(self, folder: Path) -> None:
        """Write the module list and the pooling's configuration, without a Dense."""
        kinds = ["Transformer", "Pooling", *(["Normalize"] if self.normalize else [])]
        modules = [
            {
                "idx": i,
                "name": str(i),
                "path": f"{i}_{kind}" if i else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for i, kind in enumerate(kinds)
        ]
        write_text(folder / _MODULES, json.dumps(modules, indent=2) + "\n")
        pooling = self.contents.json(_POOLING) | {"word_embedding_dimension": self.contents.dim}
        write_text(folder / _POOLING, json.dumps(pooling, indent=2, sort_keys=True) + "\n")

    def card(self) -> str:
        """Return the artifact's card with the states' new length, and a line on what they are."""
        path, name = self.contents.folder / "README.md", self.contents.name
        text = path.read_text(encoding="utf-8") if path.is_file() else f"# {name}\n"
        hidden = next(tensor for tensor in self.contents.outputs if tensor.name == EMBEDDING[0]).dims[-1]
        old, new = (f"[batch_size, sequence_length, {length}]" for length in (hidden, self.contents.dim))
        added = _NOTE.format(name=name, pooling=self.pooling, normalized=" and normalized" * self.normalize)
        return text.replace(old, new).rstrip("\n") + "\n" + added

    def difference(self, folder: Path) -> float:
        """Return how far pooled token embeddings of hard texts, and of a padded batch, are from the artifact's."""
        encoder = OnnxEncoder(self.contents.folder, threads=1)
        session = open_session(folder, [CPU], 1)
        tokens = [ids for ids in encoder.tokenize([text * times for text, times in TEXTS.values()]) if ids]
        worst = 0.0
        for rows in [*([row] for row in tokens), tokens[:8]]:
            ids, mask = encoder.pad(rows)
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            inputs = {tensor.name: feeds[tensor.name] for tensor in self.contents.inputs}
            [states] = session.run([EMBEDDING[0]], inputs)
            pooled = _pooled(states, mask, self.pooling)
            vectors = normalized(pooled) if self.normalize else pooled
            # Not max(): it would pass over a NaN.
            worst = float(np.maximum(worst, np.abs(vectors - encoder.run_ids(ids, mask)).max()))
        if not worst <= DIFFERENCE_MAX:
            raise ArtifactError(
                f"{self.contents.folder}: pooled token embeddings differ by {worst:.2g}; at most {DIFFERENCE_MAX:g}"
            )
        return worst


def _pooled(states: Vectors, mask: np.ndarray[Any, Any], pooling: str) -> Vectors:
    """Return what a consumer makes of token embeddings, float32 [batch, dim]."""
    if pooling == "cls":
        return states[:, 0]
    weights = mask[..., None].astype(np.float32)
    return (states * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)


def _served(folder: Path) -> list[str]:
    """Return the consumers that pool by themselves and can take ``folder``; ArtifactError, with a reason, for none."""
    complaints = contracts.check(folder)
    pools = [name for name, rules in contracts.CONSUMERS.items() if contracts.pools_by_itself in rules]
    served = [name for name in pools if not complaints[name]]
    if not served:
        raise ArtifactError(f"token-embeddings: none of {', '.join(pools)} can take it: {complaints[pools[0]][0]}")
    return served
