"""A repository of the hub: who may see it, what it holds, and whether what was sent came as it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.sha import git_hash

from compressor.artifact.folder import MANIFEST, read_manifest, sha256
from compressor.artifact.manifest import KEPT
from compressor.core.errors import ArtifactError, HubError
from exporters.publish.refused import status_of

_OF_THE_HUB = frozenset({".gitattributes", "README.md"})  # what it puts itself into a repository that is made there
_SECONDS = 30.0  # for a question; files take what they take


@dataclass(frozen=True)
class Repository:
    """A repository by its whole name, and the client that is logged in. What the client raises, all methods do."""

    api: HfApi
    name: str

    @classmethod
    def named(cls, api: HfApi, name: str) -> "Repository":
        """Return the repository ``name``, of the token's owner where it names none."""
        return cls(api, name if "/" in name else f"{api.whoami()['name']}/{name}")

    def find(self, public: bool) -> Any:
        """Return what the hub says of it, None where it is not there; HubError where others see it than is asked."""
        try:
            there = self._info()
        except HfHubHTTPError as error:
            if status_of(error) == 404:
                return None
            raise
        if there.private and public:
            line = "is private, and is not made public from here; leave --public out, or change it on the hub"
            raise HubError(f"{self.name}: {line}")
        if not there.private and not public:
            raise HubError(f"{self.name}: is public; with --public it goes there, under another name it stays private")
        return there

    def make(self, public: bool) -> Any:
        """Make it, and return what the hub says of it; HubError where others see it than is asked."""
        self.api.create_repo(self.name, private=not public)
        there = self._info()
        if bool(there.private) == public:
            raise HubError(f"{self.name}: the hub made it {'private' if public else 'public'}; nothing was sent")
        return there

    def leftovers(self, there: Any, names: Sequence[str]) -> list[str]:
        """Return which files of an earlier artifact are none of ``names``; HubError where it holds anything else."""
        present = {file.rfilename for file in there.siblings or ()}
        if present <= _OF_THE_HUB:
            return []
        if not {MANIFEST, KEPT} <= present:
            other = min(present - _OF_THE_HUB)
            raise HubError(f"{self.name}: holds something else, {other}; give a new or an empty repository")
        others = sorted(present - set(names))
        earlier = self._named_there(there) if others else {}
        if stranger := next((file for file in others if file not in earlier), None):
            raise HubError(f"{self.name}: holds {stranger}, which no artifact brought; take it out, or give another")
        return others

    def commit(self, there: Any, view: Path, names: Sequence[str], message: str, create_pr: bool) -> Any:
        """Send the files ``names`` of ``view`` in one commit on what is ``there``; of earlier artifacts none stay."""
        gone = self.leftovers(there, names)
        return self.api.create_commit(
            self.name,
            operations=[
                *(CommitOperationAdd(name, str(view / name)) for name in names),
                *(CommitOperationDelete(name) for name in gone),
            ],
            commit_message=message,
            create_pr=create_pr,
            parent_commit=there.sha,
        )

    def check(self, commit: Any, view: Path, names: Sequence[str]) -> None:
        """Hold what the hub has after a commit against what was sent, by size and hash: HubError."""
        there: Mapping[str, Any] = {file.rfilename: file for file in self._info(commit).siblings or ()}
        wrong = [name for name in names if name not in there or not _same(there[name], view / name)]
        if wrong := [*wrong, *sorted(there.keys() - set(names))]:
            raise HubError(f"{self.name}: {wrong[0]} is not there as it was sent, and verify refuses the copy")

    def _info(self, commit: Any = None) -> Any:
        if commit is None:
            return self.api.model_info(self.name, timeout=_SECONDS)
        revision = commit.pr_revision or commit.oid
        return self.api.model_info(self.name, revision=revision, files_metadata=True, timeout=_SECONDS)

    def _named_there(self, there: Any) -> Mapping[str, Any]:
        """Return the files that the manifest there names."""
        with TemporaryDirectory() as folder:
            self.api.hf_hub_download(self.name, MANIFEST, revision=there.sha, local_dir=folder)
            try:
                return dict(read_manifest(Path(folder))["files"])
            except ArtifactError as error:
                raise HubError(f"{self.name}: its {MANIFEST} is none of this project; give a new repository") from error


def _same(there: Any, own: Path) -> bool:
    if there.size != own.stat().st_size:
        return False
    if there.lfs is not None:
        return bool(there.lfs.sha256 == sha256(own))
    return bool(there.blob_id == git_hash(own.read_bytes()))
