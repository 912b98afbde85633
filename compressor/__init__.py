"""Compress transformer encoders for ONNX Runtime.

``compress`` walks a recipe's whole way; ``Recipe`` and ``ReaderRecipe`` are recipes. They are imported when they are
asked for. Whatever is imported of this project is imported after this: what its libraries would report to their makers
is off.
"""

import os
import sys
from typing import TYPE_CHECKING

from compressor.core.public import lazily

if TYPE_CHECKING:
    from compressor.flow.answering import ReaderRecipe
    from compressor.flow.embedding import Recipe
    from compressor.flow.tasks import compress

__all__ = ["ReaderRecipe", "Recipe", "compress"]

REPORTS_OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime 1.29 or later: an identifier, a queue and host names, at its import
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Variables that switch off what libraries report; what the user has set of them stays."""

for _name, _value in REPORTS_OFF.items():
    os.environ[_name] = os.environ.get(_name) or _value

# ``python -m compressor.cli`` puts the user's folder first, and a file of a library's name there would be imported in
# its place. Where the project itself was found in it, it stays.
_by_name = sys.argv[:1] == ["-m"] and any(word.removeprefix("-m") == "compressor.cli" for word in sys.orig_argv)
if _by_name and not sys.flags.safe_path and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]


__getattr__, __dir__ = lazily(
    __name__, {"ReaderRecipe": "flow.answering", "Recipe": "flow.embedding", "compress": "flow.tasks"}
)
