"""Collections in BEIR's folder form, written for a test."""

import json
from pathlib import Path
from typing import Any

from builders import sentences

DOCUMENTS = [{"_id": "a", "title": "Cats", "text": "sleep"}, {"_id": "b", "text": "dogs run"}, {"_id": 7, "text": "c"}]
QUERIES = [{"_id": "1", "text": "who sleeps"}, {"_id": "2", "text": "who runs"}, {"_id": "3", "text": "who else"}]
JUDGED = "query-id\tcorpus-id\tscore\n1\ta\t2\n1\tb\t1\n2\tb\t1\n3\ta\t0\n"


def write(
    folder: Path, documents: Any = DOCUMENTS, queries: Any = QUERIES, judged: str = JUDGED, split: str = "test"
) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", documents), ("queries", queries)):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "qrels" / f"{split}.tsv").write_text(judged)
    return folder


def of_sentences(folder: Path, count: int = 60) -> Path:
    """Write a collection of sentences, each asked for by its own words in another order."""
    texts = sentences(count)
    documents = [{"_id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    queries = [
        {"_id": f"q{number}", "text": " ".join(reversed(text.split()))} for number, text in enumerate(texts[:20])
    ]
    judged = "".join(f"q{number}\td{number}\t1\n" for number in range(20))
    return write(folder, documents, queries, judged)
