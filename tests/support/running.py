"""Runs of tiny recipes, and whether what they leave is whole."""

from pathlib import Path

from builders import sentences

from compressor.artifact.folder import Artifact

RECIPE = """
[teacher]
model = "{teacher}"
[texts]
source = "texts.txt"
heldout = 20
[distil]
layers = [0, 3]
epochs = 2.0
batch_size = 16
warmup_steps = 2
precision = "fp32"
checkpoint_steps = 5
[verify]
teacher_cosine_mean = -1.0
teacher_cosine_p1 = -1.0
teacher_cosine_min = -1.0
neighbours_at_10 = 0.0
int8_cosine_mean = 0.5
[bench]
sts = ["sts.csv"]
count = 64
rounds = 1
queries = 20
batch_sizes = [8]
lengths = []
"""


def write_recipe(folder: Path, recipe: str, teacher: Path, texts: int = 400, pairs: int = 60) -> Path:
    """Write ``tiny.toml`` with its texts and an STS file of pairs of them into ``folder``, and return the folder."""
    made = sentences(texts)
    rows = zip(made[:pairs], made[pairs : 2 * pairs], strict=True)
    (folder / "texts.txt").write_text("\n".join(made))
    (folder / "sts.csv").write_text("\n".join(f'"{a}","{b}",{i % 6}' for i, (a, b) in enumerate(rows)))
    (folder / "tiny.toml").write_text(recipe.format(teacher=teacher.as_posix()))
    return folder


def whole(folder: Path) -> list[str]:
    """Open every folder that has a manifest and no name of work in progress; return their names."""
    found = []
    for path in sorted(folder.rglob("manifest.json")):
        name = path.parent.relative_to(folder).as_posix()
        if not any(part.startswith(".") for part in name.split("/")):
            Artifact.open(path.parent)
            found.append(name)
    return found
