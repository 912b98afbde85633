"""ONNX Runtime's own format, written so that the same graph gives the same bytes.

ONNX Runtime lays out one table, the kernels' type constraints, in the order of a hash map that differs from process
to process. The table is written again in the order of its names, before the rest of the file as it is.
"""

import struct
from typing import Any

import flatbuffers

from compressor.core.errors import ArtifactError

_MARK = b"ORTM"
_ALIGNMENT = 16


def canonical(content: bytes) -> bytes:
    """Return the same model with its type constraints in order of their names; ArtifactError for another format."""
    import onnxruntime.tools.ort_format_model  # noqa: F401 - it puts the schema on the path
    from ort_flatbuffers_py.fbs import InferenceSession as Session

    if content[4:8] != _MARK:
        raise ArtifactError("ONNX Runtime wrote a file that is not in its own format")
    buffer = bytearray(content)
    session = Session.InferenceSession.GetRootAs(buffer, 0)
    model = session.Model()._tab.Pos
    start = model - struct.unpack_from("<i", buffer, model)[0]  # of the model's field table, which precedes it
    tail = buffer[min(start, model) :]
    builder = flatbuffers.Builder(len(buffer) + 65536)
    # Offsets are counted from the end, so all that was written before the constraints may stay as it is.
    builder.Bytes[-len(tail) :] = tail
    builder.head = len(builder.Bytes) - len(tail)
    builder.minalign = _ALIGNMENT
    version = builder.CreateString(session.OrtVersion())
    constraints = _constraints(builder, session.KernelTypeStrResolver())
    Session.Start(builder)
    Session.AddOrtVersion(builder, version)
    Session.AddModel(builder, len(buffer) - model)
    Session.AddKernelTypeStrResolver(builder, constraints)
    builder.Finish(Session.End(builder), file_identifier=_MARK)
    return bytes(builder.Output())


def _constraints(builder: Any, resolver: Any) -> int:
    from ort_flatbuffers_py.fbs import ArgTypeAndIndex as Place
    from ort_flatbuffers_py.fbs import KernelTypeStrArgsEntry as Entry
    from ort_flatbuffers_py.fbs import KernelTypeStrResolver as Resolver
    from ort_flatbuffers_py.fbs import OpIdKernelTypeStrArgsEntry as Operator

    operators = []
    for operator in _sorted(resolver.OpKernelTypeStrArgs, resolver.OpKernelTypeStrArgsLength(), "OpId"):
        entries = []
        for entry in _sorted(operator.KernelTypeStrArgs, operator.KernelTypeStrArgsLength(), "KernelTypeStr"):
            places = []
            for place in (entry.Args(i) for i in range(entry.ArgsLength())):
                Place.Start(builder)
                Place.AddArgType(builder, place.ArgType())
                Place.AddIndex(builder, place.Index())
                places.append(Place.End(builder))
            name, inside = builder.CreateSharedString(entry.KernelTypeStr()), _vector(builder, places)
            Entry.Start(builder)
            Entry.AddKernelTypeStr(builder, name)
            Entry.AddArgs(builder, inside)
            entries.append(Entry.End(builder))
        name, inside = builder.CreateSharedString(operator.OpId()), _vector(builder, entries)
        Operator.Start(builder)
        Operator.AddOpId(builder, name)
        Operator.AddKernelTypeStrArgs(builder, inside)
        operators.append(Operator.End(builder))
    inside = _vector(builder, operators)
    Resolver.Start(builder)
    Resolver.AddOpKernelTypeStrArgs(builder, inside)
    return int(Resolver.End(builder))


def _sorted(get: Any, count: int, key: str) -> list[Any]:
    return sorted((get(i) for i in range(count)), key=lambda entry: bytes(getattr(entry, key)()))


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
