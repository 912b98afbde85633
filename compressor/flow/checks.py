"""What an encoder's recipe may not ask for, found before any work."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.bench import Speed
from benchmarks.quality.languages import read_tests
from benchmarks.systems import taking_parts
from compressor.core.errors import RecipeError
from compressor.core.progress import say
from compressor.models.sentence_model import embedding_dimension, open_model
from compressor.models.source import weights_files
from compressor.texts.collections import Collection
from compressor.texts.corpus import Corpus
from compressor.untrusted.weights import fp32_bytes, read_headers
from exporters.graph.consumers import check_prompts
from exporters.graph.files import ONE_FILE_BYTES
from exporters.runtime.providers import CPU, require_providers
from exporters.search.embedding import Search
from exporters.verify.check import Verifying

if TYPE_CHECKING:
    from compressor.flow.embedding import EmbeddingFlow


def check(flow: "EmbeddingFlow") -> None:
    """Hold the settings of an encoder's recipe against teacher, texts and machine; RecipeError for what cannot be."""
    flow.recipe.bench.check(flow.base)
    flow.recipe.verify.check(flow.collections)
    check_judged(flow.recipe.bench, flow.recipe.verify)
    model = open_model(flow.teacher.folder)
    distil, pca = flow.recipe.distil, flow.recipe.pca
    if not distil or (distil.layers != 0 and distil.model is None):  # its student keeps the teacher's pooling
        check_prompts(flow.teacher.folder, model)
    if distil and distil.vocabulary is not None and flow.recipe.multilingual:  # whatever its value
        raise RecipeError(f"distil.vocabulary = {distil.vocabulary}: not with multilingual; leave it out")
    if distil:
        distil.check(model)
        _ = flow.other  # it is there, and an encoder
    if pca:
        pca.check(embedding_dimension(model), len(flow.corpus.train))
    if pca and distil and (distil.dim or distil.matryoshka):
        raise RecipeError(f"pca.dim = {pca.dim}: the student's vectors are short already; leave one section out")
    if distil and distil.layers == 0 and flow.recipe.quantize:
        raise RecipeError("quantize: PyTorch has no int8 form of a static student; leave the section out")
    if flow.recipe.search:
        _check_search(flow, flow.recipe.search)
    if flow.recipe.multilingual and not distil:
        raise RecipeError("multilingual: needs a student to teach; add a section distil")
    if distil and flow.translations:
        read_tests(flow.translations)  # before any training


def check_judged(bench: Speed, verify: Verifying) -> None:
    """Refuse a provider that is measured and not judged (RecipeError), or not there (ProviderError)."""
    for provider in taking_parts(bench.providers):
        if provider not in verify.providers:
            raise RecipeError(f"bench.providers: {provider}: not judged; name it in verify.providers, too")
    require_providers(verify.providers)


def _check_search(flow: "EmbeddingFlow", search: Search) -> None:
    """Refuse a search of another precision, or one on the texts that its choice is then timed on."""
    if search.precision != "int8":
        raise RecipeError('search.precision = "fp32": in a recipe the search makes the int8 artifact; must be int8')
    if search.provider != CPU:
        raise RecipeError(f'search.provider = "{search.provider}": in a recipe must be {CPU}; see compressor optimise')
    size = fp32_bytes(read_headers(weights_files(flow.teacher.folder)))
    if flow.recipe.distil is None and size > ONE_FILE_BYTES:
        raise RecipeError(f"search: {size / 1e9:.1f} GB of weights in fp32; a search takes 2.1 GB; leave it out")
    flow.speed_texts(search)


def trained_on(collections: Sequence[Collection], corpus: Corpus) -> dict[str, dict[str, float]]:
    """Return, of each collection, the share of its documents (``searched``) and of its queries (``asked``) that are
    among the texts to train on; warn of any."""
    shares = {found.name: found.shares_among(corpus.bare(corpus.train)) for found in collections}
    for name, (documents, queries) in shares.items():
        for share, what in ((documents, "documents"), (queries, "queries")):
            if share:
                say(("retrieval", "yellow"), f": {name}: {share:.2%} of its {what} are among the texts to train on")
    searched = {name: documents for name, (documents, _) in shares.items()}
    asked = {name: queries for name, (_, queries) in shares.items()}
    return {"searched": searched, "asked": asked} if shares else {}
