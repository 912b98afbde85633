"""The gate of encoders: what an artifact must keep of its student and its teacher before it is handed out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from compressor.artifact.folder import Draft
from compressor.artifact.layout import EMBEDDING, GRAPH
from compressor.core.errors import ModelError, RecipeError, TextError
from exporters.runtime.names import with_cpu
from exporters.verify.check import Check, Cosine, Share, Verifying, is_exact, on_provider, operator_checks

if TYPE_CHECKING:
    from compressor.core.encoder import Vectors
    from compressor.models.agreement import Floats, Heldout
    from compressor.models.projection import Projection
    from compressor.texts.collections import Collection
    from compressor.vectors.retrieval import Found, Searches
    from exporters.session import OnnxEncoder

# NumPy, PyTorch and the runtimes are imported where they measure: `compressor verify ARTIFACT` needs none of them.

_UNCHANGED, _RANGES_A_BATCH = 0.99999, [0.98, 0.97]  # least cosines: padded, in a batch


class Verify(Verifying):
    """Bars that the artifacts must clear; a miss fails the run."""

    parity: Annotated[float, Field(gt=0)] = 1e-5
    """fp32: largest difference of a vector's component from PyTorch's, over batch sizes and lengths, and of texts."""
    int8_cosine_mean: Cosine = 0.98
    """int8: mean cosine with the PyTorch student's vectors."""
    teacher_cosine_mean: Cosine = 0.85
    """Mean cosine with the teacher's vectors on held-out texts."""
    teacher_cosine_p1: Cosine = 0.6
    """1st percentile of the cosine with the teacher's vectors."""
    teacher_cosine_min: Cosine = 0.2
    """Least cosine with the teacher's vectors."""
    neighbours_at_10: Share = 0.4
    """Share of a held-out text's 10 nearest texts in common with the teacher."""
    ranking_kept: Share | None = None
    """nDCG@10, 0 to 1, of how held-out texts rank each other, with the teacher's order as the truth. None: no bar."""
    length_gap: Share | None = None
    """How much lower the mean cosine with the teacher may be on longer held-out texts (to 64, 128, 256 tokens, and the
    model's limit) than on the shortest (to 32). None: no bar."""
    retrieval_share: Share | None = None
    """Share of the teacher's mean nDCG@10 in the collections of ``bench.retrieval``, or ``--retrieval``. None: no
    bar."""
    padding_cosine_min: Cosine | None = None
    """int8: least cosine of a text's vector with the same text's, padded; by default 0.99999, and 0.98 with ranges a
    batch. fp32 must keep 0.99999."""
    batch_cosine_min: Cosine | None = None
    """int8: least cosine of a text's vector alone with the same text's in a batch; by default 0.99999, and 0.97 with
    ranges a batch. fp32 must keep 0.99999."""

    def check(self, collections: "Sequence[Collection]", field: str = "bench.retrieval") -> None:
        """Raise RecipeError for a bar on retrieval without a collection, which ``field`` would name."""
        if self.retrieval_share is not None and not collections:
            raise RecipeError(f"verify.retrieval_share = {self.retrieval_share:g}: needs a collection in {field}")

    def run(
        self,
        fp32: Path,
        int8: Path,
        student: Path,
        heldout: "Heldout",
        draft: Draft,
        searches: "Searches | None" = None,
    ) -> None:
        """Examine both artifacts and write ``checks.json`` into ``draft``; ``gate`` judges it."""
        self.check_both(fp32, int8, lambda name, folder: self.examine(name, folder, student, heldout, searches), draft)

    def examine(
        self, name: str, folder: Path, student: Path, heldout: "Heldout", searches: "Searches | None" = None
    ) -> list[Check]:
        """Measure the artifact in ``folder`` (``name`` is "fp32" or "int8") against its student and its teacher.

        And against what the teacher finds, where ``searches`` has that.
        """
        from compressor.models.projection import Projection
        from compressor.models.sentence_model import embedding_dimension, open_model, transformer_of
        from exporters.graph.static import as_transformer
        from exporters.session import OnnxEncoder

        first, *others = (OnnxEncoder(folder, with_cpu(provider)) for provider in self.providers)
        model = open_model(student, attention="eager")
        if first.dim != (width := embedding_dimension(model)):
            raise ModelError(
                f"{student}: vectors of length {width}, those of {folder} have {first.dim}; not its student"
            )
        projection = Projection.load(student)
        return [
            *self._vectors(name, first, model, heldout, projection, searches),
            *self._folder(name, first, model),
            *operator_checks(name, folder, transformer_of(as_transformer(model)).config, self.fused),
            *(own for other in others for own in self._vectors(name, other, model, heldout, projection, searches)),
        ]

    def _vectors(
        self,
        name: str,
        encoder: "OnnxEncoder",
        model: Any,
        heldout: "Heldout",
        projection: "Projection | None",
        searches: "Searches | None",
    ) -> list[Check]:
        """Judge what an open artifact gives on its provider."""
        from compressor.vectors.retrieval import ranking_kept

        vectors = encoder.encode(heldout.texts)
        checks = [
            *self._student(name, encoder, model, heldout.texts, vectors),
            *self._teacher(name, heldout.agreement(vectors, projection), ranking_kept(heldout, vectors) / 100),
            *self._lengths(name, encoder, heldout.texts, heldout.cosines(vectors, projection)),
            *(self._found(name, searches.found(encoder), searches.teacher) if searches else []),
            *self._invariance(name, encoder, heldout.texts[:256]),
        ]
        return on_provider(name, encoder, checks)

    def _student(
        self, name: str, encoder: "OnnxEncoder", model: Any, heldout: Sequence[str], vectors: "Vectors"
    ) -> list[Check]:
        from compressor.models.agreement import cosines
        from compressor.models.sentence_model import TorchEncoder
        from exporters.graph.static import as_transformer
        from exporters.verify.parity import largest_difference, parity

        label, own = "parity with PyTorch", TorchEncoder(model).encode(heldout, batch_size=64)
        if is_exact(name, encoder):
            worst, of_texts = parity(encoder, as_transformer(model)), largest_difference(own, vectors)
            return [
                Check(name, label, "max_difference", worst, self.parity, "<=", "verify.parity"),
                Check(name, label, "max_difference_of_texts", of_texts, self.parity, "<=", "verify.parity"),
            ]
        cosine, bar = cosines(own, vectors), self.int8_cosine_mean
        return [
            Check(name, label, "cosine_mean", float(cosine.mean()), bar, field="verify.int8_cosine_mean"),
            Check(name, label, "cosine_min", float(cosine.min())),
        ]

    def _teacher(self, name: str, figures: Mapping[str, float], ranking: float) -> list[Check]:
        bars = {
            "cosine_mean": self.teacher_cosine_mean,
            "cosine_p1": self.teacher_cosine_p1,
            "cosine_min": self.teacher_cosine_min,
            "neighbours_at_10": self.neighbours_at_10,
        }
        label = "agreement with the teacher"
        fields = {f: f"verify.{f}" if f.startswith("neighbours") else f"verify.teacher_{f}" for f in bars}
        checks = [Check(name, label, f, figures[f], b, field=fields[f]) for f, b in bars.items() if f in figures]
        return [*checks, Check(name, label, "ranking_kept", ranking, self.ranking_kept, field="verify.ranking_kept")]

    def _lengths(
        self, name: str, encoder: "OnnxEncoder", texts: Sequence[str], cosines: "Floats | None"
    ) -> list[Check]:
        """State the mean cosine with the teacher's vectors by length, and hold the longer texts against the shortest.

        Raises TextError for a bar where the texts have one length alone.
        """
        from exporters.verify.lengths import largest_gap, means_by_length

        if cosines is None:
            return []
        tokens = [len(ids) for ids in encoder.tokenize(texts)]
        label, means = "agreement by length", means_by_length(cosines, tokens, encoder.max_length)
        checks = [Check(name, label, f"cosine_mean_to_{most}", mean) for most, mean in means.items()]
        if len(means) > 1:
            gap = largest_gap(means)
            checks.append(Check(name, label, "largest_gap", gap, self.length_gap, "<=", "verify.length_gap"))
        elif self.length_gap is not None:
            found = f"of {len(tokens)} held-out texts, of up to {max(tokens)} tokens, no two lengths have 20 each"
            raise TextError(f"verify.length_gap = {self.length_gap:g}: {found}; give longer texts, or leave it out")
        return checks

    def _found(self, name: str, own: Mapping[str, float], teacher: "Mapping[str, Found]") -> list[Check]:
        """Hold what the artifact finds against what the teacher does: of all collections by their mean, and of each."""
        from compressor.vectors.retrieval import FIGURE

        label, figure = "retrieval", f"{FIGURE}_of_teachers"
        full = {collection: teacher[collection][FIGURE] for collection in own}
        share, bar = sum(own.values()) / max(sum(full.values()), 1e-9), self.retrieval_share
        return [
            Check(name, label, figure, share, bar, field="verify.retrieval_share"),
            *(Check(name, label, f"{figure}, {key}", own[key] / max(full[key], 1e-9)) for key in own),
        ]

    def _invariance(self, name: str, encoder: "OnnxEncoder", texts: Sequence[str]) -> list[Check]:
        from compressor.models.agreement import cosines
        from exporters.graph.files import load
        from exporters.precision.calibrate import dynamic_inputs
        from exporters.verify.parity import invariance

        bars = [_UNCHANGED, _UNCHANGED]
        fields: list[str | None] = [None, None]
        if not is_exact(name, encoder):
            fields = ["verify.padding_cosine_min", "verify.batch_cosine_min"]
            usual = _RANGES_A_BATCH if dynamic_inputs(load(encoder.folder / GRAPH)) else bars
            stated = (self.padding_cosine_min, self.batch_cosine_min)
            bars = [own if bar is None else bar for bar, own in zip(stated, usual, strict=True)]
        alone, padded, batched = invariance(encoder, texts)
        return [
            Check(
                name, "padding invariance", "cosine_min", float(cosines(alone, padded).min()), bars[0], field=fields[0]
            ),
            Check(
                name, "batch invariance", "cosine_min", float(cosines(alone, batched).min()), bars[1], field=fields[1]
            ),
        ]

    def _folder(self, name: str, encoder: "OnnxEncoder", model: Any) -> list[Check]:
        """Judge what stands beside the graph: the tokenizer, and the pooling that some consumers do themselves."""
        from compressor.models.agreement import cosines
        from exporters.graph.files import load
        from exporters.graph.static import as_transformer
        from exporters.verify.folder import by_modules, computable, other_tokens

        label, texts = "folder as consumers read it", computable(encoder)
        mismatches = float(len(other_tokens(encoder, as_transformer(model))))
        tokens = Check(name, label, "texts_of_other_tokens", mismatches, 0, "<=")
        if EMBEDDING[0] not in [output.name for output in load(encoder.folder / GRAPH).graph.output]:
            return [tokens]  # a graph that others exported: it gives no tokens' vectors to pool
        cosine = float(cosines(by_modules(encoder, texts), encoder.encode(texts, batch_size=1)).min())
        # The folder's Dense stays in fp32.
        kept = (self.int8_cosine_mean, "verify.int8_cosine_mean")
        bar, field = (_UNCHANGED, None) if is_exact(name, encoder) else kept
        return [
            tokens,
            Check(name, label, "pooled_cosine_min", cosine, bar, field=field),
        ]
