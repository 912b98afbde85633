"""The page of encoder families and what each can have, found out on a small random model of each."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from benchmarks.report.markdown import escaped
from benchmarks.report.table import Column, Table
from compressor.core.files import replace_text
from compressor.distil.student.size import Possible
from exporters.verify.check import fuses

PAGE = Path("docs/families.md")
_SIZES = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 40,
}  # fmt: skip
_OWN: dict[str, dict[str, Any]] = {
    "Albert": {"embedding_size": 8},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "DistilBert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
    "Electra": {"embedding_size": 8},
    "EuroBert": {f"{token}_token_id": 0 for token in ("pad", "bos", "eos", "mask")},
    "ModernBert": {f"{token}_token_id": 0 for token in ("pad", "bos", "eos", "cls", "sep")},
    "Gemma3Text": {"num_key_value_heads": 1, "head_dim": 8, "use_bidirectional_attention": True},
    "Qwen3": {"num_key_value_heads": 1, "head_dim": 8},
    "T5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_heads": 2},
}
FAMILIES = (
    "Bert", "Roberta", "XLMRoberta", "DistilBert", "Electra", "Camembert", "MPNet", "Albert", "T5", "DebertaV2",
    "ModernBert", "NomicBert", "Gte", "EuroBert", "Gemma3Text", "Qwen3",
)  # fmt: skip
_HEAD = """# Encoder families

What each family can have, found out on a small random model of each by `python -m benchmarks.pages.families`. Every one
of them is exported, quantized, verified and measured. `compressor compress MODEL --dry-run` says the same of a model.

| column | what it says |
|---|---|
| layers left out | a student may have fewer layers (`distil.layers`) |
| fitted | kept layers start from a fit to the teacher (`start`), and may have fewer neurons (`feed_forward`) |
| narrower | states of fewer units (`width`) |
| fewer heads | fewer heads a layer (`heads`); with rotary positions, narrower states keep heads of the teacher's size |
| ReLU | `activation = "relu"` |
| narrow table | the vocabulary's table may be narrower than the states (`distil.embedding_size`): BERT's alone |
| fused | attention and Gelu of every layer run as one operator each, and `verify.fused = "auto"` asks for it |
"""


@dataclass(frozen=True)
class Family:
    """What one family can have."""

    name: str
    possible: Possible
    fused: bool

    @classmethod
    def of(cls, name: str) -> "Family":
        """Look at a random model of a family, as transformers spells it."""
        config = getattr(transformers, f"{name}Config")(**_SIZES | _OWN.get(name, {}))
        kind = "T5EncoderModel" if name == "T5" else f"{name}Model"
        model = getattr(transformers, kind)(config).eval()
        return cls(str(config.model_type), Possible.of(model), fuses(config))

    @property
    def reasons(self) -> list[str]:
        """Return why not, each reason once; of a narrow table, the head of the page says it."""
        found = {name: reason for name, reason in vars(self.possible).items() if name != "unfactored"}
        return list(dict.fromkeys(filter(None, found.values())))


def page() -> str:
    """Write the page."""
    families = [Family.of(name) for name in FAMILIES]
    columns = [
        Column("family", lambda family: escaped(family.name), words=True),
        Column("layers left out", lambda family: _answer(not family.possible.uncut)),
        Column("fitted", lambda family: _answer(not family.possible.unfitted)),
        Column("narrower", lambda family: _answer(not family.possible.unnarrowed)),
        Column("fewer heads", lambda family: _answer(not family.possible.unheaded)),
        Column("ReLU", lambda family: _answer(not family.possible.no_relu)),
        Column("narrow table", lambda family: _answer(not family.possible.unfactored)),
        Column("fused", lambda family: _answer(family.fused)),
    ]
    why = [f"- {escaped(reason)}" for family in families for reason in family.reasons]
    parts = [_HEAD, Table(columns, families).markdown(), "", "## Why not", *dict.fromkeys(why), ""]
    return "\n".join(parts)


def _answer(can: bool) -> str:
    return "yes" if can else "no"


def main(arguments: list[str] | None = None) -> int:
    """Write docs/families.md, or say that it is stale; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages.families", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is stale")
    check, text = parser.parse_args(arguments).check, page()
    if PAGE.exists() and PAGE.read_text("utf-8") == text:
        return 0
    if check:
        print(f"{PAGE}: stale; run python -m benchmarks.pages.families", file=sys.stderr)
        return 1
    replace_text(PAGE, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
