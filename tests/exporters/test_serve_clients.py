"""The clients that people have get what the artifact gives: openai, LangChain, LlamaIndex, huggingface_hub, curl."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import sentences
from served import Server, prefixed, serving

from exporters.reader import OnnxReader
from exporters.session import OnnxEncoder

pytestmark = pytest.mark.packages
for _name in ("starlette", "uvicorn", "orjson", "prometheus_client"):
    pytest.importorskip(_name, reason=f"{_name} is not installed: make test-serve")

TEXTS = sentences(12)
NAME = "text-embedding-3-small"  # LlamaIndex takes OpenAI's own names alone


@pytest.fixture(scope="module")
def folder(sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prefixed(sealed / "fp32", tmp_path_factory.mktemp("clients") / "prefixed", 8)


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(f"{NAME}={folder}", "--threads", 1, COMPRESSOR_API_KEY="sesame") as running:
        yield running


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OnnxEncoder:
    return OnnxEncoder(folder, threads=1)


def test_openais_own(server: Server, encoder: OnnxEncoder) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed: make test-serve")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="sesame", max_retries=0)
    expected = encoder.encode(TEXTS)
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        found = client.embeddings.create(model=NAME, input=TEXTS, **options)
        rows = [row.embedding for row in found.data]
        if options.get("encoding_format") != "base64":  # which the client leaves to its caller where it is asked for
            np.testing.assert_allclose(np.array(rows, np.float32), expected, atol=1e-5)
        assert found.usage.total_tokens == sum(map(len, encoder.tokenize(TEXTS)))
    ids = client.embeddings.create(model=NAME, input=encoder.tokenize(TEXTS))
    np.testing.assert_allclose([row.embedding for row in ids.data], expected, atol=1e-5)
    short = client.embeddings.create(model=NAME, input="a", dimensions=8, extra_body={"input_type": "query"})
    assert len(short.data[0].embedding) == 8
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).owned_by == "compressor"
    with pytest.raises(openai.BadRequestError, match="dimensions = 7: must be 16 or 8"):
        client.embeddings.create(model=NAME, input="a", dimensions=7)
    with pytest.raises(openai.NotFoundError, match="not served here"):
        client.embeddings.create(model="other", input="a")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong").models.list()


def test_langchains(server: Server, encoder: OnnxEncoder) -> None:
    library = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed: make test-serve")
    made = library.OpenAIEmbeddings(
        model=NAME, base_url=f"{server.url}/v1", api_key="sesame", check_embedding_ctx_length=False
    )
    np.testing.assert_allclose(made.embed_documents(TEXTS), encoder.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(made.embed_query(TEXTS[0]), encoder.encode(TEXTS[:1])[0], atol=1e-5)


def test_llama_indexs(server: Server, encoder: OnnxEncoder) -> None:
    library = pytest.importorskip(
        "llama_index.embeddings.openai", reason="llama-index-embeddings-openai is not installed: make test-serve"
    )
    made = library.OpenAIEmbedding(model=NAME, api_base=f"{server.url}/v1", api_key="sesame")
    np.testing.assert_allclose(made.get_text_embedding_batch(TEXTS), encoder.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(made.get_query_embedding(TEXTS[0]), encoder.encode(TEXTS[:1])[0], atol=1e-5)


def test_hugging_faces(
    server: Server, encoder: OnnxEncoder, servable: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface-hub is not installed: make test-serve")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)  # what is asked is on loopback
    client = hub.InferenceClient(model=f"{server.url}/embed", token="sesame")
    found = client.feature_extraction(TEXTS[0], normalize=True, truncate=True, truncation_direction="right")
    np.testing.assert_allclose(found, encoder.encode(TEXTS[:1]), atol=1e-5)
    with serving(servable["reader"], "--threads", 1) as reader:
        asking = hub.InferenceClient(model=f"{reader.url}/answer")
        answer = asking.question_answering(question="cat or dog ?", context="the dog sleeps here today")
        best = OnnxReader(servable["reader"], threads=1).answer(["cat or dog ?"], ["the dog sleeps here today"])[0]
        assert (answer.answer, answer.start, answer.end) == (best.text(), best.spans[0].start, best.spans[0].end)
        several = asking.question_answering(question="cat or dog ?", context="the dog sleeps here today", top_k=2)
        assert [one.answer for one in several] == [span.text for span in best.spans[:2]]


def test_curl(server: Server, encoder: OnnxEncoder) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here")
    said = ["-H", "Content-Type: application/json", "-H", "Authorization: Bearer sesame"]
    body = json.dumps({"model": NAME, "input": TEXTS})
    command = ["curl", "--silent", "--fail", f"{server.url}/v1/embeddings", *said, "-d", body]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    np.testing.assert_allclose([row["embedding"] for row in found["data"]], encoder.encode(TEXTS), atol=1e-5)
