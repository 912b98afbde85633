"""The commands of the hand-off: views of an artifact, who made it, and of what."""

from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.cli.common import ArtifactArgument, out, written
from compressor.cli.options import with_choice
from compressor.core.errors import RecipeError
from compressor.core.files import replace_text
from exporters.pack import TARGETS, Target
from exporters.pack import pack as write
from exporters.pack.hub import Hub

Signature = Annotated[
    Path | None, typer.Option("--signature", help="The signature's file. [default: beside the folder, NAME.sig]")
]


ViewOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder to write; new, empty, or an earlier artifact. With --push it may be left out."),
]
PushOption = Annotated[
    str | None,
    typer.Option(
        "--push",
        metavar="NAME",
        help="hub: Send it to the repository NAME or OWNER/NAME, private where it is made, if verify takes it and its "
        "licence is known; the token is HF_TOKEN's, or that of hf auth login.",
    ),
]
PublicOption = Annotated[bool, typer.Option("--public", help="hub: With --push, to a repository that all may see.")]
PullRequestOption = Annotated[bool, typer.Option("--create-pr", help="hub: With --push, as a pull request.")]


@with_choice("target", "The kind of consumer.", TARGETS)
def pack(
    artifact: ArtifactArgument,
    out_: ViewOption = None,
    push: PushOption = None,
    public: PublicOption = False,
    create_pr: PullRequestOption = False,
    *,
    target: Target,
) -> None:
    """Write a view of an artifact for one kind of consumer; its files are checked by their hashes first."""
    if push is not None:
        _publish(artifact, out_, target, {"repository": push, "public": public, "create_pr": create_pr})
        return
    for name, given in (("public", public), ("create-pr", create_pr)):
        if given:
            raise RecipeError(f"--{name}: an option of --push")
    if out_ is None:
        raise typer.BadParameter("missing; give a folder", param_hint="'--out'")
    write(artifact, target, out_)
    written(out_)


def _publish(artifact: Path, to: Path | None, target: Target, asked: dict[str, Any]) -> None:
    """Send a view to the hub, and print where the commit is: the last line."""
    if not isinstance(target, Hub):
        raise RecipeError("--push: an option of --target hub; other views have no place there")
    from exporters.publish.hub import Push, publish

    def say(line: str) -> None:
        out.print(line, soft_wrap=True)

    sent = publish(artifact, target, Push(**asked), to, say)
    if to is not None:
        written(to)
    seen = "private" if sent.private else "public"
    say(f"{sent.repository}: {seen}, {'as it was sent' if sent.changed else 'there already, nothing changed'}")
    if sent.pull_request_url:
        say(sent.pull_request_url)
    say(sent.commit_url)


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
