"""What an artifact for so many bytes turned out to be."""

from pathlib import Path

from benchmarks.report.numbers import count, percent, significant
from compressor.artifact.folder import whole_bytes
from compressor.core.errors import GateError
from compressor.core.strict_json import JsonObject
from compressor.flow.compress.wish import Wish


def kept(results: JsonObject, recipe: Path, wish: Wish) -> str:
    """Say how many bytes the whole folder of an artifact takes, which lies beside its recipe, and what it keeps.

    GateError where it is larger, or slower, than was wanted; what was planned is expected, this is measured.
    """
    rows = {row["stage"]: row for row in results["story"]}
    made, teacher = rows[wish.precision], rows["teacher"]
    speeds = {row["name"]: row["offline"]["ratio"] for row in results["bench"]["systems"]}
    most, least, speed = wish.bounds.size or 0.0, wish.bounds.speed or 0.0, speeds[f"onnx-{wish.precision}"]
    shares = [f"{percent(value / teacher['sts'][name], ' ')} of its {name}" for name, value in made["sts"].items()]
    agreement = f"mean cosine to the model {made['agreement']['cosine_mean']:.3f}"
    taken = whole_bytes(recipe.parent / "artifacts" / wish.precision)
    line = f"{count(taken)} of {count(most)} bytes; {', '.join([agreement, *shares])}; "
    line += f"{significant(speed)}× its speed"
    if taken > most:
        raise GateError(f"--size {wish.size}: the artifact takes {line}; make it smaller in {recipe}")
    if speed < least:
        raise GateError(f"--speed {wish.speed}: the artifact has {line}; make it faster in {recipe}")
    return line
