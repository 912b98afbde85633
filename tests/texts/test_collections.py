"""Collections in BEIR's folder form are read as they stand, or refused by file and line."""

from pathlib import Path
from typing import Any

import pytest
from beir import DOCUMENTS, JUDGED, write

from compressor.core.errors import TextError
from compressor.texts.collections import Collection


def test_titles_stand_before_texts_and_queries_without_an_answer_are_left_out(tmp_path: Path) -> None:
    found = Collection.read(write(tmp_path / "pets"))
    assert found.name == "pets"
    assert dict(found.documents) == {"a": "Cats sleep", "b": "dogs run", "7": "c"}
    assert dict(found.queries) == {"1": "who sleeps", "2": "who runs"}
    assert found.judged == {"1": {"a": 2, "b": 1}, "2": {"b": 1}}
    assert {k: v for k, v in found.facts().items() if k != "key"} == {"name": "pets", "documents": 3, "queries": 2}


def test_another_split_and_no_header(tmp_path: Path) -> None:
    folder = write(tmp_path / "pets", judged="1\tb\t1\n", split="dev")
    assert Collection.read(folder, "dev").judged == {"1": {"b": 1}}
    with pytest.raises(TextError, match=r"qrels/test\.tsv: no such file$"):
        Collection.read(folder)


def test_the_key_is_of_all_that_is_read(tmp_path: Path) -> None:
    keys = {
        Collection.read(write(tmp_path / "1")).key,
        Collection.read(write(tmp_path / "2", judged=JUDGED.replace("\t2\n", "\t1\n"))).key,
        Collection.read(write(tmp_path / "3", documents=[*DOCUMENTS, {"_id": "d", "text": "more"}])).key,
    }
    assert len(keys) == 3
    assert Collection.read(write(tmp_path / "4")).key in keys


def test_documents_and_queries_that_were_trained_on_are_counted(tmp_path: Path) -> None:
    found = Collection.read(write(tmp_path / "pets"))
    assert found.shares_among(["cats sleep!", "cats", "b"]) == (1 / 3, 0)
    assert found.shares_among(["Sleep."]) == (1 / 3, 0), "the text alone of a document that has a title"
    assert found.shares_among(["sleep", "cats sleep", "dogs  run", "WHO sleeps?"]) == (2 / 3, 1 / 2)
    assert found.shares_among(iter(["dogs run", "c", "sleep"])) == (1, 0)
    assert found.shares_among([]) == (0, 0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"documents": [*DOCUMENTS, {"_id": "a", "text": "x"}]}, r"corpus\.jsonl: line 4: _id 'a' stands twice$"),
        ({"documents": [{"_id": "a"}]}, r"corpus\.jsonl: line 1: needs _id and text, and may have a title: texts all$"),
        ({"documents": ["{"]}, r"corpus\.jsonl: line 1 is no JSON"),
        (
            {"documents": [DOCUMENTS[0], {"_id": "d", "text": "a \ud83d"}]},
            r"corpus\.jsonl: line 2: holds half a character \(a lone surrogate\), which has no UTF-8$",
        ),
        ({"queries": [{"_id": "1", "text": "\udc00"}]}, r"queries\.jsonl: line 1: holds half a character"),
        ({"documents": [""]}, r"corpus\.jsonl: no line; there is nothing to search$"),
        ({"queries": [{"_id": True, "text": "x"}]}, r"queries\.jsonl: line 1: needs _id and text"),
        ({"judged": "1\tnowhere\t1\n"}, r"test\.tsv: line 1: corpus-id 'nowhere' is in no line of the collection$"),
        ({"judged": JUDGED + "9\ta\t1\n"}, r"test\.tsv: line 6: query-id '9' is in no line of the collection$"),
        ({"judged": JUDGED + "1\ta\n"}, r"test\.tsv: line 6: expected query-id, corpus-id, score with tabs between"),
        ({"judged": "1\ta\t0\n"}, r"test\.tsv: no query has a relevant document; there is nothing to find$"),
    ],
)
def test_what_is_no_collection_is_refused(parts: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TextError, match=message):
        Collection.read(write(tmp_path / "pets", **parts))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"nowhere: no such folder; a collection has corpus\.jsonl, queries\.jsonl and"):
        Collection.read(tmp_path / "nowhere")
