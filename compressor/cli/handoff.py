"""The commands of the hand-off: views of an artifact, who made it, and of what."""

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli.common import ArtifactArgument, OutOption, out, written
from compressor.cli.options import with_choice
from compressor.core.files import replace_text
from exporters.pack import TARGETS, Target
from exporters.pack import pack as write

Signature = Annotated[
    Path | None, typer.Option("--signature", help="The signature's file. [default: beside the folder, NAME.sig]")
]


@with_choice("target", "The kind of consumer.", TARGETS)
def pack(artifact: ArtifactArgument, out_: OutOption, *, target: Target) -> None:
    """Write a view of an artifact for one kind of consumer; its files are checked by their hashes first."""
    write(artifact, target, out_)
    written(out_)


def sign(
    artifact: ArtifactArgument,
    key: Annotated[Path, typer.Option("--key", help="Private key of an elliptic curve, PEM.")],
    signature: Signature = None,
    password: Annotated[
        str | None, typer.Option("--password", envvar="COMPRESSOR_KEY_PASSWORD", help="The key's password.")
    ] = None,
) -> None:
    """Sign an artifact, every file of it, with a key of your own; nothing is sent anywhere."""
    from exporters.publish import trust

    to = signature or beside(artifact)
    trust.sign(artifact, key, to, password)
    out.print(f"{to}: signature of {artifact}", soft_wrap=True)


def check_signature(
    artifact: ArtifactArgument,
    key: Annotated[Path, typer.Option("--key", help="Public key of the one who signed, PEM.")],
    signature: Signature = None,
) -> None:
    """Tell whether an artifact is what the owner of a key signed; if not, exit status 1."""
    from exporters.publish import trust

    trust.check_signature(artifact, key, signature or beside(artifact))
    out.print(f"{artifact}: as it was signed", soft_wrap=True)


def sbom(
    artifact: ArtifactArgument,
    to: Annotated[Path | None, typer.Option("--out", help="File to write. [default: printed]")] = None,
) -> None:
    """Write an artifact's bill of materials as CycloneDX JSON: teacher, files with their sha256, packages."""
    from exporters.publish.trust import bill_of_materials

    text = bill_of_materials(artifact)
    if to is None:
        print(text, end="")
    else:
        replace_text(to, text)


def beside(folder: Path) -> Path:
    """Return where a folder's signature lies unless told otherwise."""
    absolute = folder.absolute()
    return absolute.with_name(f"{absolute.name}.sig")
