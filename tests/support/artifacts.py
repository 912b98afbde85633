"""Small artifacts, what is in their folders, and the fault of one that is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compressor.artifact.folder import Artifact, writing
from compressor.core.errors import ArtifactError


def make(to: Path, text: str = "weights", key: str = "key") -> Artifact:
    with writing(to, "stage", key, {"dim": 3}) as draft:
        (draft.folder / "model.bin").write_text(text)
        (draft.folder / "1_Pooling").mkdir()
        (draft.folder / "1_Pooling" / "config.json").write_text("{}")
        draft.figures["cosine"] = 0.5
    return Artifact.open(to)


def fault(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(ArtifactError) as caught:
        call(*arguments)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
