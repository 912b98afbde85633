"""One command from a model to a verified artifact: look, choose a recipe, say what it will do, and do it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.tradeoff.recommend import recommend
from compressor.core.config import load
from compressor.core.errors import GateError
from compressor.core.progress import say
from compressor.core.strict_json import JsonObject
from compressor.flow.compress.chooser import Chooser
from compressor.flow.compress.plan import Plan, kept_plan
from compressor.flow.compress.sized.kept import kept
from compressor.flow.compress.wish import Wish
from compressor.flow.embedding import Recipe
from compressor.flow.tasks import flow_of
from compressor.flow.tradeoff import tradeoff
from compressor.flow.variants import copy_stages
from compressor.machine.processes import alone
from compressor.texts.corpus import TextSource


def compress_model(
    model: str,
    texts: TextSource | None,
    out: Path,
    wish: Wish,
    command: str,
    questions: Path | None = None,
    changes: Sequence[str] = (),
    dry_run: bool = False,
) -> JsonObject:
    """Compress ``model`` into the folder ``out`` and return the results; on from where an earlier call stopped.

    The recipe that is chosen lies in it, with ``changes`` (``section.field=value``) made; the same call goes by it as
    it stands. With ``dry_run`` nothing is done but say what would be, and the recipe's values are returned, those that
    lie there where it would be gone on with. Raises CompressorError; GateError where an artifact is below its bar, or
    no depth keeps what is wanted.
    """
    alone("a recipe is chosen")
    wish.check()
    chooser = Chooser(model, texts, out, wish, questions, tuple(changes))
    plan = kept_plan(out, chooser.wanted)
    if plan is None:
        choice = chooser.choose()
        if dry_run:
            return choice.values
        plan = Plan(out, chooser.wanted, choice.depths)
        plan.write(choice.values, [command, *choice.notes])
        say(("recipe", "bold"), f": {plan.path}")
    else:
        say(("recipe", "bold"), f": {plan.path}, as it stands")
        if dry_run:
            return load(plan.path, flow_of(plan.path).schema).model_dump(mode="json", exclude_unset=True)
    if plan.depths:
        plan = _decided(plan, wish, command)
    results = _walked(plan, command)
    if wish.size is not None:
        say(("kept", "bold"), f": {kept(results, plan.path, wish)}")
    return results


def _walked(plan: Plan, command: str) -> JsonObject:
    """Walk the whole way of the plan's recipe."""
    task = flow_of(plan.path)
    try:
        return task.run_in(plan.folder, load(plan.path, task.schema), command)
    except GateError as error:
        raise GateError(f"{error}; bars stand in {plan.path}") from error


def _decided(plan: Plan, wish: Wish, command: str) -> Plan:
    """Make the plan's depths side by side, and write the recipe of the one that keeps what is wanted."""
    recipe = load(plan.path, Recipe)
    results = tradeoff(recipe, plan.depths, plan.folder, plan.folder, command, [wish.precision])
    made = plan.folder / f"{recipe.name}-tradeoff"
    found = recommend(made, wish.bounds)
    say((str(wish.bounds), "bold"), f": {found.summary}; {found.why}")
    layers, depth = int(found.pick["layers"]), int(results["bench"]["systems"][0]["layers"])
    values = recipe.model_dump(mode="json", exclude_unset=True)
    own = values.pop("distil", None)
    if own is not None and layers < depth:
        values["distil"] = own | {"layers": layers}
    copy_stages(made / f"{layers}-layers", plan.folder)
    decided = replace(plan, depths=())
    decided.write(values, [command, f"{wish.bounds}, of {_listed(plan.depths)} layers: {found.summary}"])
    return decided


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
