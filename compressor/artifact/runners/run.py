"""Hold a runtime against the conformance cases of an artifact: ``python conformance/run.py``.

Needs onnxruntime, tokenizers and numpy. For a runtime of your own, replace ``session`` and ``tokenizer``; a case's
``prompt``, where it has one, stands before its text.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"  # it reports from its import on
import onnxruntime  # noqa: E402


def failures(stated: Any, tokenizer: Any, session: Any) -> Iterator[str]:
    """Yield a line for each case whose token ids or outputs are not those ``stated``."""
    bar = stated["tolerance"]
    if not (0 <= bar["absolute"] <= 1e-4 and 0.99 <= bar.get("cosine", 1) <= 1 and 0 <= bar.get("norm", 0) <= 0.1):
        yield f"tolerance {bar}: at most 1e-4 of each number, or a cosine of at least 0.99 and a norm within a tenth"
    if not stated["cases"] or not all(case["outputs"] for case in stated["cases"]):
        yield "cases without outputs: nothing to be held against"
    tokenizer.no_padding()
    tokenizer.enable_truncation(**stated["truncation"])
    for case in stated["cases"]:
        prompt = case.get("prompt", "")
        ids = tokenizer.encode(*(prompt + part["text"] * part["times"] for part in case["texts"])).ids
        if ids != case["ids"]:
            yield f"{case['name']}: token ids differ"
        feeds = {name: np.array([values], np.int64) for name, values in case["inputs"].items()}
        for name, row in case["outputs"].items():
            made, wanted = session.run([name], feeds)[0][0].astype(np.float64), np.array(row)
            if made.shape != wanted.shape:
                yield f"{case['name']}: {name} has {made.size} numbers, stated are {wanted.size}"
                continue
            off, norm, length = np.abs(made - wanted).max(), np.linalg.norm(wanted), np.linalg.norm(made)
            cosine = made @ wanted / max(length * norm, 1e-30)
            alike = cosine >= bar.get("cosine", 2) and abs(length - norm) <= bar.get("norm", 0.1) * norm
            if not (off <= bar["absolute"] or alike):
                how = f"off by {off:.3g}, cosine {cosine:.6f}, norm {length:.4g} of {norm:.4g}"
                yield f"{case['name']}: {name} is {how}"


if __name__ == "__main__":
    folder = Path(__file__).resolve().parents[1]
    cases = json.loads((folder / "conformance/cases.json").read_text(encoding="utf-8"))
    runtime = onnxruntime.InferenceSession(folder / cases["graph"], providers=["CPUExecutionProvider"])
    found = list(failures(cases, Tokenizer.from_file(str(folder / "tokenizer.json")), runtime))
    print("\n".join(found) or "conforms")
    sys.exit(bool(found))
