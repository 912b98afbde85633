"""An artifact is signed offline and told from a changed one; its bill of materials is valid CycloneDX."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compressor.artifact.folder import read_manifest, sha256, writing
from compressor.artifact.manifest import manifest_text, sealed
from compressor.cli.app import app
from compressor.core import errors
from compressor.core.errors import ArtifactError, DependencyError
from exporters.publish import trust

CONFIG = {
    "recipe": {"name": "tiny"},
    "teacher": "org/teacher",
    "teacher_sha256": "ab" * 32,
    "teacher_license": "apache-2.0",
    "precision": "int8",
}


@pytest.fixture
def artifact(artifacts: Callable[..., Path], tmp_path: Path) -> Path:
    with writing(tmp_path / "int8", "artifacts/int8", "0123456789abcdef", CONFIG) as made:
        shutil.copytree(artifacts() / "int8", made.folder, dirs_exist_ok=True)
    return tmp_path / "int8"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Return a private and a public key."""
    pytest.importorskip("model_signing.signing", reason="model-signing is not installed", exc_type=ImportError)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    for name, text in (("private.pem", private), ("public.pem", public)):
        (tmp_path / name).write_bytes(text)
    return tmp_path / "private.pem", tmp_path / "public.pem"


def call(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, (ArtifactError, DependencyError)):
        return 1, str(done.exception)
    return done.exit_code, done.output


def test_what_was_signed_is_told_from_what_was_changed(artifact: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    assert call("sign", artifact, "--key", private)[0] == 0
    assert (tmp_path / "int8.sig").is_file()
    code, said = call("check-signature", artifact, "--key", public)
    assert (code, said.replace("\n", "")) == (0, f"{artifact}: as it was signed")
    moved = tmp_path / "elsewhere"
    shutil.copytree(artifact, moved)
    trust.check_signature(moved, public, tmp_path / "int8.sig")
    for name, change in (
        ("tokenizer.json", lambda path: path.write_text("x")),
        ("extra.txt", lambda path: path.write_text("x")),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace("tiny", "tinY"))),
        ("config.json", lambda path: path.unlink()),
    ):
        shutil.rmtree(moved)
        shutil.copytree(artifact, moved)
        change(moved / name)
        with pytest.raises(ArtifactError, match=rf"elsewhere: not what .*int8\.sig was made of by this key: .*{name}"):
            trust.check_signature(moved, public, tmp_path / "int8.sig")


def test_keys_and_signatures_that_are_none_are_refused(artifact: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    with pytest.raises(ArtifactError, match=r"public\.pem: no private key of an elliptic curve in PEM: "):
        trust.sign(artifact, public, tmp_path / "s.sig")
    with pytest.raises(ArtifactError, match=r"s\.sig: no such signature$"):
        trust.check_signature(artifact, public, tmp_path / "s.sig")
    trust.sign(artifact, private, tmp_path / "s.sig")
    with pytest.raises(ArtifactError, match=r"private\.pem: no public key of an elliptic curve in PEM: "):
        trust.check_signature(artifact, private, tmp_path / "s.sig")
    (tmp_path / "s.sig").write_text("{}")
    with pytest.raises(ArtifactError, match="was made of by this key"):
        trust.check_signature(artifact, public, tmp_path / "s.sig")
    (artifact / "tokenizer.json").write_text("x")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):  # a damaged artifact is not signed
        trust.sign(artifact, private, tmp_path / "other.sig")
    assert not (tmp_path / "other.sig").exists()


def test_the_bill_of_materials_is_valid_and_always_the_same(artifact: Path, tmp_path: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    assert call("sbom", artifact, "--out", tmp_path / "bom.json")[0] == 0
    text = (tmp_path / "bom.json").read_text()
    assert text == trust.bill_of_materials(artifact) == call("sbom", artifact)[1]
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    whole = bom["metadata"]["component"]
    assert (whole["name"], whole["type"]) == ("tiny-int8", "machine-learning-model")
    listed = {one["name"]: one["hashes"][0]["content"] for one in whole["components"]}
    assert listed == {name: sha256(artifact / name) for name in listed}
    assert "onnx/model.onnx" in listed
    assert "manifest.json" not in listed
    (teacher,) = [one for one in bom["components"] if one["type"] == "machine-learning-model"]
    assert (teacher["name"], teacher["hashes"][0]["content"]) == ("org/teacher", "ab" * 32)
    assert teacher["licenses"] == [{"license": {"name": "apache-2.0"}}]


def test_a_bill_is_of_what_a_run_hands_out(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed")
    with writing(tmp_path / "fp32", "optimise", "key", {"fuse": True}) as made:
        shutil.copytree(artifacts() / "fp32", made.folder, dirs_exist_ok=True)
    with pytest.raises(ArtifactError, match="names no recipe and teacher; a bill of materials is of what a run hands"):
        trust.bill_of_materials(tmp_path / "fp32")
    stated = {
        name: value for name, value in read_manifest(tmp_path / "fp32").items() if name not in ("config", "sha256")
    }
    for more in ({}, {"config": {"recipe": [], "teacher": "", "teacher_sha256": "", "precision": ""}}):
        (tmp_path / "fp32" / "manifest.json").write_text(manifest_text(sealed(stated | more)))
        with pytest.raises(ArtifactError, match="names no recipe and teacher"):
            trust.bill_of_materials(tmp_path / "fp32")


def test_what_is_not_installed_is_said(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(errors, "import_module", missing)
    assert call("sign", artifact, "--key", tmp_path / "k")[1] == (
        "model-signing: not installed; pip install 'compressor[trust]'"
    )
    assert call("sbom", artifact)[1] == "cyclonedx-python-lib: not installed; pip install 'compressor[trust]'"
