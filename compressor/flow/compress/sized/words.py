"""How much of some texts falls out of a model's vocabulary where that is cut."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sentence_transformers import SentenceTransformer

from compressor.core.errors import RecipeError
from compressor.distil.student.words.usage import Usage, must_stay, token_counts

if TYPE_CHECKING:
    from compressor.flow.compress.outlook import Outlook

_TEXTS = 20_000  # that tokens are counted in, at most


def usage_of(model: SentenceTransformer, outlook: "Outlook", texts: Sequence[str]) -> Usage | None:
    """Count the tokens of ``texts``; None for a model whose vocabulary cannot be cut."""
    if outlook.possible.uncut or not model.tokenizer.is_fast:
        return None
    state = json.loads(model.tokenizer.backend_tokenizer.to_str())
    padding = model.tokenizer.pad_token_id or 0
    try:
        if not set(range(padding)) <= must_stay(state, padding):  # the padding's id would change
            return None
        return Usage.of(state, token_counts(model, texts[:_TEXTS]))
    except RecipeError:
        return None
