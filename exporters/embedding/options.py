"""What is embedded how: the options of a run, which every worker has."""

from typing import Annotated, Literal

from pydantic import Field

from compressor.artifact.prompts import DOCUMENT, QUERY, Prompts
from compressor.core.config import Config
from compressor.core.errors import RecipeError, installed
from compressor.vectors.codes import VectorPrecision

Form = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]


class Embedding(Config):
    """How texts of files become vectors on disk."""

    to: Literal["parquet", "npy", "lance"] = "parquet"
    """What is written: Parquet files of the columns id and vector, .npy files, or a LanceDB table named vectors."""
    precision: Form = "float32"
    """What a vector is made of; int8 and uint8 by the artifact's ranges, binary and ubinary eight signs a byte."""
    column: str | None = None
    """The text column of tables; none takes the only one, or the only one named text, sentence, content, passage or the
    like."""
    id_column: str | None = None
    """The column of tables that becomes id, copied as it is; none numbers the texts from 0."""
    with_text: bool = False
    """Write the texts, too, as column text."""
    role: Literal["document", "query"] = "document"
    """What texts are: the model's prompt for it, where it has one, is put before them."""
    prompt_name: str | None = None
    """Another of the model's prompts, by its name."""
    prompt: str | None = None
    """A prompt in place of the model's own."""
    shard_rows: Annotated[int, Field(ge=1, le=1 << 24)] = 65_536
    """Texts of a file that is written; of a store, texts that are added at once. A stopped run begins its last one
    again."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts of a batch, at most."""

    @property
    def computed(self) -> VectorPrecision:
        """What the encoder gives: float16 is cut from float32."""
        return "float32" if self.precision == "float16" else self.precision

    def check(self) -> None:
        """Raise RecipeError for options that do not go together, DependencyError for a package that they need."""
        if self.prompt is not None and self.prompt_name is not None:
            raise RecipeError(f"prompt_name = {self.prompt_name}: not beside prompt; give one of them")
        for name in ("id_column", "with_text"):
            if self.to == "npy" and getattr(self, name):
                raise RecipeError(
                    f"{name} = {getattr(self, name)}: to = npy holds vectors alone; take parquet or lance"
                )
        if self.to == "lance" and self.precision not in ("float32", "float16", "ubinary"):
            raise RecipeError(f"precision = {self.precision}: to = lance searches float32, float16 and ubinary alone")
        if self.to == "lance":
            installed("lancedb", "lancedb", "lance")
        if self.to != "npy":
            installed("pyarrow", "pyarrow", "embed")

    def chosen(self, prompts: Prompts) -> str:
        """Return what is put before every text; TextError for a name that the model has not."""
        name = self.prompt_name
        if name is None and self.prompt is None:
            name = prompts.first(QUERY if self.role == "query" else DOCUMENT)
        return prompts.choose(name, self.prompt)
