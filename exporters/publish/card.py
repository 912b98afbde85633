"""Hand-out: the artifact folder that passed the gate, with its model card."""

import json
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Tokenizer

from compressor.answering.readers.reader import read_reading
from compressor.artifact.cases import Precision
from compressor.artifact.copying import copy_artifact
from compressor.artifact.folder import Draft
from compressor.artifact.layout import DATA, GRAPH, INPUTS, INTEGER_PRODUCTS, REDUCED
from compressor.artifact.prompts import DOCUMENT, QUERY, Prompts, kept_prompts
from compressor.artifact.workspace import Model
from compressor.core.config import Config
from compressor.machine.describe import INT8_FEATURES, features
from compressor.models.projection import Projection
from compressor.models.source import STATIC
from compressor.vectors.codes import RANGES
from exporters.graph.files import load
from exporters.precision.calibrate import dynamic_inputs
from exporters.publish.template import CONSUMERS, template
from exporters.runtime.words import cutting_side
from exporters.verify.check import Check
from exporters.verify.conformance import write_conformance

Checks = Sequence[Check]

_EXAMPLES = ("A sentence.", "Another one.")


class HandOut(Config):
    """Hand out an artifact that passed the gate; a task says what its card shows."""

    template: ClassVar[str]
    """The file that the card is written from."""

    recipe: dict[str, Any]
    """The recipe it was made by."""
    teacher: str
    """The teacher's name."""
    teacher_sha256: str
    """SHA-256 of the teacher's weights."""
    teacher_license: str | None = None
    """The hub's name of the teacher's licence, which goes on with the artifact; none where its card states none."""
    precision: Precision
    """Which of the run's artifacts it is."""

    @abstractmethod
    def facts(self, draft: Draft) -> dict[str, Any]:
        """Return what the card's template shows of the finished folder."""

    def hand_out(self, made: Model, checks: Checks, draft: Draft) -> None:
        """Copy the folder, note its figures, add its conformance set and its card."""
        own = [check for check in checks if check.artifact == self.precision]
        copy_artifact(made.folder, draft.folder)
        draft.figures.update(self.figures(made.figures, own))
        write_conformance(draft.folder, self.precision)
        facts = self.facts(draft) | {
            "in_4_bits": made.figures.get("embeddings") == 4,
            "sums_saturate": self.sums_saturate(made.figures),
        }
        (draft.folder / "README.md").write_text(self.card(own, facts), encoding="utf-8")

    def figures(self, made: Mapping[str, Any], checks: Checks) -> dict[str, Any]:
        """Return what is noted of the artifact: of its graph's figures those that go on, and what running it needs."""
        needs: dict[str, Any] = {"onnxruntime": ">=1.24", "session_options": {}} | made.get("needs", {})
        if self.precision == "int8":
            needs["fast_on"] = list(INT8_FEATURES)
        more = {name: made[name] for name in ("choice", "embeddings", REDUCED) if name in made}
        judged = [check.as_dict() for check in checks]
        return {"operators": made["operators"], "checks": judged, "needs": needs, **more, "made_on": features()}

    def sums_saturate(self, made: Mapping[str, Any]) -> bool:
        """Whether it multiplies int8 by weights of 8 bits, of which x86 without VNNI has no exact sums of itself.

        ``made``: its graph's figures.
        """
        return not set(INTEGER_PRODUCTS).isdisjoint(made["operators"]) and not made.get(REDUCED)

    def card(self, checks: Checks, facts: Mapping[str, Any]) -> str:
        """Return the model card: the artifact's own ``checks``, and what the task's template shows."""
        return template(self.template).render(
            name=self.recipe["name"],
            precision=self.precision,
            teacher=self.teacher,
            teacher_sha256=self.teacher_sha256,
            licence=self.teacher_license,
            checks=checks,
            **{"in_4_bits": False, "sums_saturate": False} | dict(facts),
        )


class Publish(HandOut):
    """Hand out a sentence-embedding artifact that passed the gate."""

    template = "embedding.md.j2"

    trained_on: str | None = None
    """What lengths of text the student was trained on, where it reads longer ones."""

    def run(
        self, made: Model, ranges: Model, checks: Checks, draft: Draft, projection: Projection | None = None
    ) -> None:
        """Write the folder, its card and its figures into ``draft``.

        ``projection`` takes the teacher's vectors into the student's space, where that is another.
        """
        if projection is not None:
            projection.save(draft.folder)
        self.hand_out(made, checks, draft)
        shutil.copy(ranges.folder / RANGES, draft.folder / RANGES)
        draft.figures["output_vectors"] = ranges.figures["precisions"]

    def facts(self, draft: Draft) -> dict[str, Any]:
        folder, model = draft.folder, load(draft.folder / GRAPH, weights=False)
        inputs = [value.name for value in model.graph.input]
        hidden, dim = (output.type.tensor_type.shape.dim[-1].dim_value for output in model.graph.output)
        projection = Projection.load(folder)
        draft.figures["teacher_dim"] = teacher_dim = dim if projection is None else projection.width
        config, sentences = (_json(folder / name) for name in ("config.json", "sentence_bert_config.json"))
        prompts = kept_prompts(folder)
        return {
            "inputs": inputs,
            "hidden": hidden,
            "weights_beside": DATA.as_posix() if (folder / DATA).is_file() else "",
            "dim": dim,
            "teacher_dim": teacher_dim,
            "projected": projection is not None,
            "max_length": sentences["max_seq_length"],
            "side": cutting_side(Tokenizer.from_file(str(folder / "tokenizer.json"))),
            "pad": config.get("pad_token_id") or 0,
            "static": config.get("architectures") == [STATIC],
            "dense": any(folder.glob("*_Dense")),
            "dynamic": bool(dynamic_inputs(model)),
            "texts": [prompts.default + text for text in _EXAMPLES],
            "prompts": _prompts(prompts),
            "trained_on": self.trained_on,
            "choice": draft.figures.get("choice"),
            "session_options": draft.figures["needs"]["session_options"],
            "consumers": _consumers(dim, len(inputs)),
        }


class PublishReader(HandOut):
    """Hand out a reader's artifact that passed the gate."""

    template = "reader.md.j2"

    def run(self, made: Model, checks: Checks, draft: Draft) -> None:
        """Write the folder, its card and its figures into ``draft``."""
        self.hand_out(made, checks, draft)

    def facts(self, draft: Draft) -> dict[str, Any]:
        inputs = [value.name for value in load(draft.folder / GRAPH, weights=False).graph.input]
        return {"inputs": inputs, "reading": read_reading(draft.folder)}


def _prompts(prompts: Prompts) -> list[tuple[str, str]]:
    """Return each way to encode with what it puts before a text; none of a model without prompts."""
    roles = {"encode_query(texts)": prompts.first(QUERY), "encode_document(texts)": prompts.first(DOCUMENT)}
    ways = [("encode(texts)", prompts.default), *((call, prompts.choose(name)) for call, name in roles.items())]
    others = [name for name in prompts.stated if name not in roles.values()]
    named = [(f"encode(texts, prompt_name={json.dumps(name)})", prompts.named[name]) for name in others]
    return [*ways, *named] if prompts.stated else []


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _consumers(dim: int, inputs: int) -> str:
    """Return how other libraries and languages load the artifact, a section each."""
    title, *sections = CONSUMERS.read_text(encoding="utf-8").replace("dim=256", f"dim={dim}").split("\n## ")
    if inputs != len(INPUTS):
        sections = [section for section in sections if not section.startswith("C\n")]  # it names three
    return "\n### ".join([f"#{title}", *sections])
