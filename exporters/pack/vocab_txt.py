"""An artifact for those who read a WordPiece vocabulary as ``vocab.txt``, a token a line."""

from pathlib import Path

from compressor.artifact.folder import MANIFEST, Artifact, Draft
from compressor.core.errors import ArtifactError
from compressor.core.strict_json import read_json
from exporters.graph.consumers import VOCABULARY
from exporters.pack.target import TASKS, Contents, Target, copy_files, write_text


class VocabTxt(Target):
    """The artifact with its WordPiece vocabulary as vocab.txt, too: for .NET, Semantic Kernel."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write all files of the artifact, and ``vocab.txt``; ArtifactError where its tokenizer is no WordPiece."""
        contents = Contents.read(artifact, "vocab-txt", TASKS)
        copy_files(artifact, draft, [name for name in artifact.manifest["files"] if name != MANIFEST])
        if not write_vocabulary(draft.folder):
            kind = contents.json("tokenizer.json")["model"].get("type")
            raise ArtifactError(f"{contents.folder / 'tokenizer.json'}: a {kind} model; taken is WordPiece")
        draft.figures["needs"] = contents.needs()


def write_vocabulary(folder: Path) -> bool:
    """Write the ``vocab.txt`` of a folder's ``tokenizer.json``; return False where that holds no WordPiece model.

    ArtifactError for ids that are no lines' numbers, or a token that is no line.
    """
    model = read_json(folder / "tokenizer.json")["model"]
    if model.get("type") != "WordPiece":
        return False
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    lines = [model["vocab"][token] for token in tokens] == list(range(len(tokens)))
    if not lines or any("\n" in token for token in tokens):
        raise ArtifactError(f"{folder / 'tokenizer.json'}: its ids are not 0 to {len(tokens) - 1}, a token a line")
    write_text(folder / VOCABULARY, "".join(f"{token}\n" for token in tokens))
    return True
