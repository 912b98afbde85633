"""A batcher gives each text its vector, whoever it shares a batch with, whatever fails, and however it ends."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences

from compressor.artifact.folder import write_json
from compressor.artifact.prompts import Prompts
from compressor.core.errors import BusyError, CompressorError, TextError
from exporters.serving import Batcher
from exporters.session import OnnxEncoder

TEXTS = sentences(200)


class Watched(OnnxEncoder):
    """An encoder that notes its batches and computes none before it may."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        super().__init__(folder, threads=threads)
        self.batches: list[tuple[int, int]] = []
        self.may = threading.Event()
        self.busy = threading.Semaphore(0)

    def run_ids(self, input_ids: Any, attention_mask: Any) -> Any:
        self.batches.append(input_ids.shape)
        self.busy.release()
        assert self.may.wait(60)
        return super().run_ids(input_ids, attention_mask)


@pytest.fixture(scope="module")
def fp32(artifacts: Callable[..., Path]) -> Path:
    return artifacts() / "fp32"


@pytest.fixture
def watched(fp32: Path) -> Iterator[Watched]:
    encoder = Watched(fp32)
    yield encoder
    encoder.may.set()


def held(batcher: Batcher, encoder: Watched) -> Future[Any]:
    """Send one text and wait until a worker is at it."""
    first = batcher.submit("the cat")
    assert encoder.busy.acquire(timeout=60)
    return first


def test_vectors_are_those_of_encode(fp32: Path) -> None:
    encoder = OnnxEncoder(fp32, threads=2)
    expected = encoder.encode(TEXTS)
    with Batcher(encoder, batch_size=8) as batcher:
        waiting = [batcher.submit(text) for text in TEXTS]
        found = np.stack([one.result(60) for one in waiting])
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(np.diff(expected, axis=0)).max(axis=1).min() > 1e-3  # a row of another text would show


def test_texts_behind_different_prompts_share_a_batch(watched: Watched) -> None:
    watched.prompts = Prompts({"query": "two red houses : ", "document": "here : "}, "new ")
    options = [{}, {"prompt_name": "query"}, {"prompt_name": "document"}, {"prompt": "old "}, {"prompt": ""}]
    with Batcher(watched) as batcher:
        first = held(batcher, watched)
        waiting = [batcher.submit(TEXTS[0], **given) for given in options]
        watched.may.set()
        found = [one.result(60) for one in waiting]
    assert first.result(60).shape == (watched.dim,)
    assert [rows for rows, _ in watched.batches] == [1, 5]
    for vector, prompt in zip(found, ("new ", "two red houses : ", "here : ", "old ", ""), strict=True):
        assert np.abs(vector - watched.encode([prompt + TEXTS[0]], prompt="")[0]).max() < 1e-5
    assert np.abs(np.diff(found, axis=0)).max(axis=1).min() > 1e-3


def test_many_threads_may_send(fp32: Path) -> None:
    encoder = OnnxEncoder(fp32, threads=2)
    expected = encoder.encode(TEXTS)
    with Batcher(encoder) as batcher, ThreadPoolExecutor(8) as senders:
        found = list(senders.map(lambda text: batcher.submit(text).result(60), TEXTS))
    assert np.abs(np.stack(found) - expected).max() < 1e-5


def test_an_idle_worker_starts_at_once_and_load_makes_batches(watched: Watched) -> None:
    with Batcher(watched, batch_size=16) as batcher:
        first = held(batcher, watched)
        waiting = [batcher.submit(text) for text in TEXTS[:40]]
        watched.may.set()
        wait([first, *waiting], 60)
    assert [rows for rows, _ in watched.batches] == [1, 16, 16, 8]


def test_texts_of_a_length_are_in_the_order_of_arrival(watched: Watched) -> None:
    done: list[int] = []
    with Batcher(watched, batch_size=4) as batcher:
        held(batcher, watched)
        for i in range(20):
            text = " ".join(TEXTS[i].split()[:4])
            batcher.submit(text).add_done_callback(lambda _, i=i: done.append(i))  # type: ignore[misc]
        watched.may.set()
    assert done == list(range(20))


def test_the_longest_waiting_takes_those_of_its_length_along(watched: Watched) -> None:
    short, long = "cat", " ".join(["cat"] * 60)  # 3 and 62 tokens
    with Batcher(watched, batch_size=8, most_tokens=1000) as batcher:
        held(batcher, watched)
        for text in [short, long] * 6:
            batcher.submit(text)
        watched.may.set()
    assert watched.batches[1:] == [(6, 3), (6, 62)], "short ones first: the first of them waited longest"


def test_none_waits_for_ever(watched: Watched) -> None:
    done: list[int] = []
    with Batcher(watched, batch_size=2) as batcher:
        held(batcher, watched)
        for i, count in enumerate([1, 1, 60, *[1] * 12]):
            text = " ".join(["cat"] * count)
            batcher.submit(text).add_done_callback(lambda _, i=i: done.append(i))  # type: ignore[misc]
        watched.may.set()
    assert done == [0, 1, 2, *range(3, 15)], "each batch begins with what has waited longest"


def test_batches_are_cut_as_the_encoder_cuts_them(watched: Watched) -> None:
    with Batcher(watched) as batcher:
        held(batcher, watched)
        waiting = [batcher.submit(" ".join(["cat"] * 30)) for _ in range(20)]
        watched.may.set()
        wait(waiting, 60)
    assert watched.batches[1:] == [(8, 32), (8, 32), (4, 32)]


def test_a_batch_keeps_to_the_token_budget(watched: Watched) -> None:
    long, short = " ".join(["cat"] * 60), "cat"  # 62 and 3 tokens
    with Batcher(watched, most_tokens=130) as batcher:
        held(batcher, watched)
        for text in [short] * 50 + [long] * 3 + [short]:
            batcher.submit(text)
        watched.may.set()
    # 32 rows are a batch; then the other short ones, as a long one would make each row 62 wide; two long ones; one.
    assert watched.batches[1:] == [(32, 3), (19, 3), (2, 62), (1, 62)]


def test_a_text_beyond_the_budget_runs_alone(watched: Watched) -> None:
    with Batcher(watched, most_tokens=10) as batcher:
        held(batcher, watched)
        one = batcher.submit(" ".join(["cat"] * 60))
        watched.may.set()
        assert one.result(60).shape == (32,)


@pytest.mark.parametrize("text", [b"cat", None, ["cat"]])
def test_what_is_no_text_is_refused_by_submit(text: Any, fp32: Path) -> None:
    with Batcher(OnnxEncoder(fp32, threads=1)) as batcher:
        with pytest.raises(TextError, match=rf"^text: {type(text).__name__} was given where one text belongs$"):
            batcher.submit(text)
        assert batcher.submit("cat").result(60).shape == (32,)


def test_half_a_character_is_refused_by_submit(fp32: Path) -> None:
    with Batcher(OnnxEncoder(fp32, threads=1)) as batcher, pytest.raises(TextError, match="half a character"):
        batcher.submit("\ud800")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ValueError("a bug")])
def test_a_worker_outlives_what_callbacks_raise(error: BaseException, watched: Watched) -> None:
    def fails(_: Future[Any]) -> None:
        raise error

    later: list[Future[Any]] = []
    with Batcher(watched) as batcher:
        first = held(batcher, watched)
        waiting = [batcher.submit("a dog"), batcher.submit("a bird")]
        for one in (first, *waiting):
            one.add_done_callback(fails)
            one.add_done_callback(later.append)
        watched.may.set()
        assert all(one.result(60).shape == (32,) for one in (first, *waiting))
        assert batcher.submit("the worker lives").result(60).shape == (32,)
    assert later == [first, *waiting]
    with pytest.raises(type(error)) if not isinstance(error, Exception) else nullcontext():
        first.add_done_callback(fails)  # at once, in this thread: Ctrl-C there is its own


def test_a_worker_outlives_what_a_batch_raises(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = OnnxEncoder(fp32, threads=1)
    run_ids = encoder.run_ids

    def leaves(ids: Any, mask: Any) -> Any:
        raise SystemExit(3)

    with Batcher(encoder) as batcher:
        monkeypatch.setattr(encoder, "run_ids", leaves)
        with pytest.raises(SystemExit):
            batcher.submit("a cat").result(60)
        monkeypatch.setattr(encoder, "run_ids", run_ids)
        assert batcher.submit("a dog").result(60).shape == (32,)


@pytest.mark.parametrize("cancel", [False, True])
def test_callbacks_may_submit_cancel_and_close(cancel: bool, fp32: Path) -> None:
    encoder = Watched(fp32, threads=2)
    batcher = Batcher(encoder, batch_size=1)
    found: list[Any] = []

    def use(_: Future[Any]) -> None:
        found.append(batcher.submit("from a callback"))
        waiting[-1].cancel()
        batcher.close(cancel)
        batcher.close()

    begun = [held(batcher, encoder), held(batcher, encoder)]
    waiting = [batcher.submit(text) for text in ("a dog", "a bird", "a cat")]
    waiting[0].add_done_callback(lambda _: batcher.close(cancel=True))
    begun[0].add_done_callback(use)
    encoder.may.set()
    done, left = wait([*begun, *waiting], 30)
    assert not left
    assert waiting[-1].cancelled() or waiting[-1].done()
    batcher.close()
    assert wait(found, 30).not_done == set()
    assert not any(worker.is_alive() for worker in batcher._workers)


def test_an_error_reaches_its_own_text_alone(fp32: Path, tmp_path: Path) -> None:
    """An artifact that lies about its length: longer texts than its 64 positions fail in the graph."""
    folder = Path(shutil.copytree(fp32, tmp_path / "artifact"))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 200})
    encoder = Watched(folder)
    with Batcher(encoder, most_tokens=1000) as batcher:
        held(batcher, encoder)
        texts = [" ".join(words) for words in (["cat"] * 60, ["dog"] * 70, ["bird"] * 60)]
        waiting = [batcher.submit(text) for text in texts]
        encoder.may.set()
        wait(waiting, 60)
        assert [one.exception() is None for one in waiting] == [True, False, True]
        assert np.abs(waiting[2].result() - encoder.encode(texts[2:])[0]).max() < 1e-5
        assert batcher.submit("the worker lives").result(60).shape == (32,)
    assert [rows for rows, _ in encoder.batches] == [1, 3, 1, 1, 1, 1]


def test_a_text_that_is_cancelled_leaves_the_queue(watched: Watched) -> None:
    with Batcher(watched) as batcher:
        first = held(batcher, watched)
        waiting = [batcher.submit(text) for text in TEXTS[:4]]
        assert waiting[1].cancel()
        assert not first.cancel()  # it has begun
        watched.may.set()
    assert [rows for rows, _ in watched.batches] == [1, 3]
    assert waiting[2].result().shape == (32,)


def test_too_many_waiting_are_refused(watched: Watched) -> None:
    with Batcher(watched, most_waiting=2) as batcher:
        held(batcher, watched)
        waiting = [batcher.submit("a cat"), batcher.submit("a dog")]
        with pytest.raises(BusyError, match=r"^batcher: 2 texts wait already; try again later$"):
            batcher.submit("a bird")
        watched.may.set()
        wait(waiting, 60)
        assert batcher.submit("a bird").result(60).shape == (32,)


def test_closing_computes_what_waits(watched: Watched) -> None:
    batcher = Batcher(watched)
    held(batcher, watched)
    waiting = [batcher.submit(text) for text in TEXTS[:50]]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    time.sleep(0.05)
    assert closing.is_alive()
    watched.may.set()
    closing.join(60)
    assert all(one.done() and one.exception() is None for one in waiting)
    assert not any(worker.is_alive() for worker in batcher._workers)
    with pytest.raises(CompressorError, match=r"^batcher: closed; it takes no more texts$"):
        batcher.submit("late")
    batcher.close()  # twice does no harm


def test_closing_may_cancel_what_waits(watched: Watched) -> None:
    waiting: list[Future[Any]] = []

    def fails() -> None:
        with Batcher(watched) as batcher:
            waiting.append(held(batcher, watched))
            waiting.append(batcher.submit("a dog"))
            threading.Timer(0.05, watched.may.set).start()
            raise KeyError("the server's own trouble")

    with pytest.raises(KeyError):
        fails()
    assert waiting[0].result(60).shape == (32,)  # it had begun
    with pytest.raises(CancelledError):
        waiting[1].result(60)


def test_a_row_does_not_keep_its_batch(fp32: Path) -> None:
    with Batcher(OnnxEncoder(fp32, threads=1)) as batcher:
        assert batcher.submit("a cat").result(60).base is None
