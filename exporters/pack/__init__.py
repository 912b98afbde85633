"""Derived views: one artifact as one kind of consumer takes it, each with a manifest of its own."""

import json
from pathlib import Path

from compressor.artifact.folder import Artifact, writing
from compressor.artifact.layout import GRAPH
from compressor.artifact.manifest import KEPT, PACKED
from compressor.artifact.workspace import stage_key
from compressor.core.errors import ArtifactError
from exporters.pack.hub import Hub
from exporters.pack.javascript import JavaScript
from exporters.pack.kserve import KServe
from exporters.pack.mlflow import MLflow
from exporters.pack.opensearch import OpenSearch
from exporters.pack.ort import Ort
from exporters.pack.router import Router
from exporters.pack.target import Target, write_text
from exporters.pack.token_embeddings import TokenEmbeddings
from exporters.pack.tokenizer_in_graph import TokenizerInGraph
from exporters.pack.triton import Triton
from exporters.pack.vocab_txt import VocabTxt

TARGETS: dict[str, type[Target]] = {
    "triton": Triton,
    "kserve": KServe,
    "ort": Ort,
    "javascript": JavaScript,
    "mlflow": MLflow,
    "opensearch": OpenSearch,
    "token-embeddings": TokenEmbeddings,
    "vocab-txt": VocabTxt,
    "tokenizer-in-graph": TokenizerInGraph,
    "hub": Hub,
    "router": Router,
}
__all__ = ["TARGETS", "Target", "pack"]


def pack(artifact: Path, target: Target, to: Path) -> None:
    """Write the view of ``artifact`` that ``target`` describes into ``to``.

    Every file is compared with the manifest before any is loaded; ArtifactError on the first difference.
    """
    opened = Artifact.open(artifact)
    name = next(name for name, kind in TARGETS.items() if kind is type(target))
    if str(opened.manifest.get("stage")).startswith(PACKED):
        raise ArtifactError(f"{artifact}: is a packed view itself ({opened.manifest['stage']}); give the artifact")
    if to.resolve().is_relative_to(artifact.resolve()) or artifact.resolve().is_relative_to(to.resolve()):
        raise ArtifactError(f"{to}: is the artifact, in it or around it; give another folder")
    stage = f"{PACKED}{name}"
    with writing(to, stage, stage_key(stage, target, [opened]), target.model_dump(mode="json")) as draft:
        draft.figures["artifact"] = {"key": opened.key, "stage": opened.manifest.get("stage")}
        target.run(opened, draft)
        if (draft.folder / GRAPH).is_file():  # it is run as the artifact is, by what that says of itself
            write_text(draft.folder / KEPT, json.dumps(opened.manifest, indent=2) + "\n")
