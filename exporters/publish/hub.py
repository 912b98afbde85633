"""An artifact on the Hugging Face hub: what must hold before anything is sent, and what is sent."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from compressor.artifact.folder import MANIFEST, Artifact
from compressor.artifact.licence import licence_of
from compressor.artifact.manifest import VIEW
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, HubError, RecipeError
from compressor.untrusted.inspection import check
from exporters.pack import pack
from exporters.pack.hub import Hub, card_of
from exporters.publish.refused import in_one_line
from exporters.publish.repository import Repository

_UNKNOWN = ("unknown", "other")  # the hub's names for a licence that nobody can look up
_NAMES = "NAME or OWNER/NAME of letters, digits, '-', '_' and '.', at most 96; no '--' or '..', no '.git' at the end"


def _silent(line: str) -> None:
    """Print nothing."""


class Push(Config):
    """Where on the hub an artifact goes, and who may see it there."""

    repository: str
    """NAME, of the token's owner, or OWNER/NAME."""
    public: bool = False
    """Whether everybody may see it."""
    create_pr: bool = False
    """Whether it is proposed, as a pull request, to whom the repository belongs."""

    def check(self) -> None:
        """Refuse before work starts: RecipeError for what is no name, HubError where nothing may be sent."""
        try:
            validate_repo_id(self.repository)
        except HFValidationError as error:
            raise RecipeError(f"--push {self.repository}: no name of a repository; allowed: {_NAMES}") from error
        if constants.HF_HUB_OFFLINE:
            raise HubError(f"--push {self.repository}: HF_HUB_OFFLINE is set, so nothing is sent; unset it")


@dataclass(frozen=True)
class Pushed:
    """What is on the hub now."""

    repository: str
    private: bool
    files: int
    size_bytes: int
    commit_url: str
    pull_request_url: str | None
    changed: bool
    """False where all of it was there before, and no commit was made."""


def publish(
    artifact: Path, view: Hub, push: Push, to: Path | None = None, say: Callable[[str], None] = _silent
) -> Pushed:
    """Pack ``artifact`` for the hub, into ``to`` where that is given, and send it; ``say`` prints a line.

    Nothing is written, and no hub contacted, where ``verify`` refuses the artifact, its licence is not known or its
    base model has no name there: ArtifactError or ModelError; HubError without a token, and where the hub refuses it.
    """
    push.check()
    _known(view.license or licence_of(artifact), artifact)
    _check_base(artifact / "README.md", view.base_model)
    _logged_in(push)
    _accepted(artifact)
    with _folder(to) as folder:
        pack(artifact, view, folder)
        return send(folder, push, say)


def send(view: Path, push: Push, say: Callable[[str], None] = _silent) -> Pushed:
    """Send a view for the hub in one commit: the files that its manifest names, that manifest, and nothing else.

    A repository that is not there is made. One that is must hold nothing, or an earlier artifact, which is replaced;
    who may see it stays as it is. What the hub has in the end is held against what was sent. Raises as ``publish``.
    """
    push.check()
    sent = _accepted(view)
    if sent.manifest["stage"] != VIEW:
        raise ArtifactError(f"{view}: no view for the hub; compressor pack --target hub makes one")
    _check_card(view)
    api, token = _logged_in(push)
    names, size = [*sorted(sent.manifest["files"]), MANIFEST], sent.size_bytes + (view / MANIFEST).stat().st_size
    with in_one_line(push.repository, api.endpoint, token):
        repository = Repository.named(api, push.repository)
        before = repository.find(push.public)
        if before is None and push.create_pr:
            raise HubError(f"{repository.name}: not there, so nobody takes a pull request; leave --create-pr out")
        there = repository.make(push.public) if before is None else before
    made = "" if before is not None else f"; {repository.name} was made, and nothing was put there"
    with in_one_line(repository.name, api.endpoint, token, made):
        say(f"{repository.name}: {len(names)} files, {size / 1e6:.1f} MB, to {api.endpoint}")
        message = f"Artifact {sent.figures['artifact']['key'][:12]}, by compressor {version('compressor')}"
        commit = repository.commit(there, view, names, message, push.create_pr)
    with in_one_line(repository.name, api.endpoint, token, f"; the commit is {commit.commit_url}"):
        repository.check(commit, view, names)
    changed, private = commit.oid != there.sha, bool(there.private)
    return Pushed(repository.name, private, len(names), size, commit.commit_url, commit.pr_url, changed)


def _known(licence: str | None, folder: Path) -> None:
    """Raise ArtifactError unless a licence is known: whoever takes the artifact must be told what they may do."""
    if licence is None or licence in _UNKNOWN:
        found = f"license: {licence}" if licence else "states no licence"
        raise ArtifactError(f"{folder / 'README.md'}: {found}; what is published has one, as --license apache-2.0")


def _accepted(folder: Path) -> Artifact:
    """Return what ``verify`` accepts."""
    check(folder)
    return Artifact.open(folder)


def _check_card(view: Path) -> None:
    """Refuse a card without a known licence, or with a base model that is no name on the hub: ArtifactError.

    The hub takes no other, and a path tells of the machine that it is on.
    """
    _known(licence_of(view), view)
    _check_base(view / "README.md")


def _check_base(card: Path, given: str | None = None) -> None:
    """Refuse a base model, ``given`` or else the card's, that is no name on the hub: ArtifactError."""
    stated: Any = given or (card_of(card).data.to_dict().get("base_model") if card.is_file() else None)
    for base in stated if isinstance(stated, list) else [stated] if stated is not None else []:
        try:
            validate_repo_id(base)
        except HFValidationError as error:
            line = f"base_model: {base}: no name on the hub; give one by --base-model"
            raise ArtifactError(f"{card}: {line}") from error


def _logged_in(push: Push) -> tuple[HfApi, str]:
    """Return the hub's client and its token, from the environment or from ``hf auth login``; HubError without one."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    endpoint = constants.ENDPOINT  # HF_ENDPOINT, or the public hub
    with in_one_line(push.repository, endpoint, ""):
        token = get_token()
    if not token:
        raise HubError(f"{push.repository}: no token for {endpoint}: hf auth login, or HF_TOKEN in the environment")
    return HfApi(endpoint, token, library_name="compressor", library_version=version("compressor")), token


@contextmanager
def _folder(to: Path | None) -> Iterator[Path]:
    """Give the folder to pack into; where none is asked for, it is gone when the body ends."""
    if to is not None:
        yield to
        return
    with TemporaryDirectory(prefix="compressor-") as home:
        yield Path(home) / "view"
