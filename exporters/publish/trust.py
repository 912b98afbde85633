"""Who made an artifact, and of what: an offline signature, and a bill of materials."""

import uuid
from pathlib import Path
from typing import Any

from compressor.artifact.folder import Artifact, sha256
from compressor.artifact.manifest import recipe_of, strays
from compressor.core.errors import ArtifactError, first_line, installed, storage
from compressor.core.files import replacing

_TEACHER_KEYS = ("teacher", "teacher_sha256", "precision")


def sign(folder: Path, key: Path, signature: Path, password: str | None = None) -> None:
    """Sign every file of an artifact, its manifest too, with a private key (PEM, elliptic curve), offline.

    Writes ``signature``, which lies beside the folder: what is in it is what is signed. Raises ArtifactError for a
    damaged artifact or an unusable key, DependencyError where model-signing is not installed.
    """
    Artifact.open(folder)
    signing = _library("model_signing.signing")
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key, password=password)
    except Exception as error:  # its own kinds, and cryptography's
        raise ArtifactError(f"{key}: no private key of an elliptic curve in PEM: {first_line(error)}") from error
    config.set_hashing_config(_hashing(folder))
    with storage(signature):
        signature.parent.mkdir(parents=True, exist_ok=True)
    with replacing(signature) as draft:
        config.sign(folder, draft)


def check_signature(folder: Path, key: Path, signature: Path) -> None:
    """Raise ArtifactError unless ``signature`` was made of this folder as it is, by the owner of the public ``key``."""
    verifying = _library("model_signing.verifying")
    if not signature.is_file():
        raise ArtifactError(f"{signature}: no such signature")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:  # its own kinds, and cryptography's
        raise ArtifactError(f"{key}: no public key of an elliptic curve in PEM: {first_line(error)}") from error
    try:
        config.set_hashing_config(_hashing(folder)).verify(folder, signature)
    except Exception as error:  # its own kinds, and cryptography's
        reason = first_line(error).partition(": Expected")[0]  # without the digests
        raise ArtifactError(f"{folder}: not what {signature} was made of by this key: {reason}") from error


def bill_of_materials(folder: Path) -> str:
    """Return the artifact as a CycloneDX 1.6 machine-learning model in JSON: files, teacher, packages.

    The same artifact gives the same text. Raises ArtifactError for a damaged one, DependencyError where
    cyclonedx-python-lib is not installed.
    """
    artifact = Artifact.open(folder)
    config, manifest = artifact.manifest.get("config"), artifact.manifest
    recipe = recipe_of(manifest)
    if not isinstance(config, dict) or "name" not in recipe or not {*_TEACHER_KEYS} <= config.keys():
        raise ArtifactError(f"{folder}: names no recipe and teacher; a bill of materials is of what a run hands out")
    bom_of, parts = _library("cyclonedx.model.bom"), _library("cyclonedx.model.component")
    model, output = _library("cyclonedx.model"), _library("cyclonedx.output")
    schema, kinds, licences = _library("cyclonedx.schema"), parts.ComponentType, _library("cyclonedx.model.license")

    def hashed(value: str) -> list[Any]:
        return [model.HashType(alg=model.HashAlgorithm.SHA_256, content=value)]

    name = f"{recipe['name']}-{config['precision']}"
    files = [
        parts.Component(name=file, type=kinds.FILE, bom_ref=f"file:{file}", hashes=hashed(entry["sha256"]))
        for file, entry in sorted(manifest["files"].items())
    ]
    whole = parts.Component(
        name=name,
        version=artifact.key[:12],
        type=kinds.MACHINE_LEARNING_MODEL,
        bom_ref=name,
        hashes=hashed(sha256(folder / "manifest.json")),
        properties=[model.Property(name=f"compressor:{key}", value=str(config[key])) for key in _TEACHER_KEYS],
        components=files,
    )
    teacher = parts.Component(
        name=config["teacher"],
        type=kinds.MACHINE_LEARNING_MODEL,
        bom_ref="teacher",
        hashes=hashed(config["teacher_sha256"]),
        licenses=[licences.DisjunctiveLicense(name=stated)] if (stated := config.get("teacher_license")) else [],
    )
    packages = [
        parts.Component(name=package, version=version, type=kinds.LIBRARY, bom_ref=f"pypi:{package}")
        for package, version in sorted(manifest["versions"].items())
    ]
    bom = bom_of.Bom(components=[teacher, *packages], serial_number=uuid.uuid5(uuid.NAMESPACE_URL, artifact.key))
    bom.metadata.component = whole
    bom.metadata.timestamp = None
    bom.register_dependency(whole, [teacher, *packages])
    writer = output.make_outputter(bom, output.OutputFormat.JSON, schema.SchemaVersion.V1_6)
    return str(writer.output_as_string(indent=2)) + "\n"


def _hashing(folder: Path) -> Any:
    """Return how a folder is hashed: all of it, but for what a system or git left there."""
    return _library("model_signing.hashing").Config().set_ignored_paths(paths=strays(folder), ignore_git_paths=False)


def _library(name: str) -> Any:
    package = {"model_signing": "model-signing", "cyclonedx": "cyclonedx-python-lib"}[name.partition(".")[0]]
    return installed(name, package, "trust")
