"""The errors of this project, for programs that catch them; all are ``CompressorError`` of one line."""

from compressor.core.errors import (
    ArtifactError,
    BusyError,
    CompressorError,
    DependencyError,
    GateError,
    HubError,
    ModelError,
    PeerError,
    ProviderError,
    RecipeError,
    StorageError,
    TextError,
)

__all__ = [
    "ArtifactError",
    "BusyError",
    "CompressorError",
    "DependencyError",
    "GateError",
    "HubError",
    "ModelError",
    "PeerError",
    "ProviderError",
    "RecipeError",
    "StorageError",
    "TextError",
]
