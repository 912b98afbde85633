"""The commands by name: where each one's function stands, imported when it runs, and what its help says before."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from compressor.untrusted.inspector import start_ahead

HELP = Path(__file__).with_name("help.json")
"""The help of every command, by ``compressor.cli.reference``: to show it, nothing of the command is imported."""


@dataclass(frozen=True)
class Entry:
    """Where a command's function stands."""

    at: str
    """``module:function``."""
    ahead: Callable[[], None] | None = None
    """What is started before the module is imported, to be ready when it is."""

    def load(self, name: str) -> Any:
        """Import the function and return it as a command."""
        if self.ahead is not None:
            self.ahead()
        module, _, function = self.at.partition(":")
        only = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        only.command(name)(getattr(import_module(module), function))
        return typer.main.get_command(only)


GROUPS = {
    "A whole run": {
        "compress": Entry("compressor.cli.flow:compress"),
        "run": Entry("compressor.cli.flow:run"),
        "teach": Entry("compressor.cli.flow:teach"),
        "tradeoff": Entry("compressor.cli.flow:tradeoff"),
        "recommend": Entry("compressor.cli.flow:recommend"),
        "report": Entry("compressor.cli.flow:report"),
    },
    "One step": {
        "convert": Entry("compressor.cli.make:convert"),
        "distil": Entry("compressor.cli.make:distil"),
        "pca": Entry("compressor.cli.make:pca"),
        "quantize": Entry("compressor.cli.make:quantize"),
        "export": Entry("compressor.cli.make:export"),
        "fp16": Entry("compressor.cli.make:fp16"),
        "optimise": Entry("compressor.cli.optimise:optimise"),
    },
    "Measure": {
        "bench": Entry("compressor.cli.bench:bench"),
        "curve": Entry("compressor.cli.measure:curve"),
        "profile": Entry("compressor.cli.measure:profile"),
        "growth": Entry("compressor.cli.measure:growth"),
        "lengths": Entry("compressor.cli.bench:lengths"),
        "loadgen": Entry("compressor.cli.measure:loadgen"),
        "over-http": Entry("compressor.cli.measure:over_http"),
    },
    "Look and check": {
        "inspect": Entry("compressor.cli.show:inspect"),
        "verify": Entry("compressor.cli.verify:verify", ahead=start_ahead),
        "doctor": Entry("compressor.cli.show:doctor"),
    },
    "Use": {
        "serve": Entry("compressor.cli.use.serve:serve", ahead=start_ahead),
        "embed": Entry("compressor.cli.use.embed:embed"),
    },
    "Hand out": {
        "pack": Entry("compressor.cli.handoff:pack"),
        "sign": Entry("compressor.cli.handoff:sign"),
        "check-signature": Entry("compressor.cli.handoff:check_signature"),
        "sbom": Entry("compressor.cli.handoff:sbom"),
    },
    "Question answering": {
        "finetune": Entry("compressor.cli.answering:finetune"),
        "augment": Entry("compressor.cli.answering:augment"),
        "distil-reader": Entry("compressor.cli.answering:distil_reader"),
        "export-reader": Entry("compressor.cli.answering:export_reader"),
        "evaluate": Entry("compressor.cli.answering:evaluate"),
        "ablation": Entry("compressor.cli.flow:ablation"),
    },
}
"""Commands by what one wants to do, in the order in which they are listed."""
COMMANDS = {name: entry for commands in GROUPS.values() for name, entry in commands.items()}


class Commands(TyperGroup):
    """The commands of the table."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for group, commands in GROUPS.items():
            width = formatter.width - 6 - max(map(len, commands))
            with formatter.section(group):
                formatter.write_dl([(name, self.get_command(ctx, name).get_short_help_str(width)) for name in commands])

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        stated = _stated().get(cmd_name)
        return Deferred(cmd_name, stated) if stated else COMMANDS[cmd_name].load(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            ctx.fail(f"No such command '{args[0]}'.{_near(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


class Deferred(TyperCommand):
    """A command whose function is imported when it is called for; its help is what is stated."""

    def __init__(self, name: str, stated: dict[str, Any]) -> None:
        super().__init__(name, help=stated["help"], rich_markup_mode=None)
        self.stated = stated

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Show the help that is asked for, or become the command itself."""
        if "--help" in args:
            return super().make_context(info_name, ["--help"], parent, **extra)  # prints it, and leaves
        flags = {flag: _takes_value(row[0]) for row in self.stated["options"] for flag in _FLAG.findall(row[0])}
        if flags and (unknown := _unknown(args, flags)):
            context = super().make_context(info_name, [], parent, resilient_parsing=True)
            context.fail(f"No such option: {unknown}.{_near(unknown, flags)}")
        return COMMANDS[str(self.name)].load(str(self.name)).make_context(info_name, args, parent, **extra)

    def shown(self, name: str, parent: Any) -> str:
        """Return the help as it is shown."""
        context = super().make_context(name, [], parent, resilient_parsing=True)
        return str(context.get_help())

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return list(self.stated["usage"])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title in ("Arguments", "Options"):
            if rows := self.stated[title.lower()]:
                with formatter.section(title):
                    formatter.write_dl([tuple(row) for row in rows])


def _takes_value(shown: str) -> bool:
    """Tell of an option, as help shows it, whether a value stands behind it: "--out <path>", and not "--json"."""
    return bool(_FLAG.sub("", shown).strip(" ,/"))


def _unknown(args: Sequence[str], flags: Mapping[str, bool]) -> str | None:
    """Return the first option that is none of ``flags``; what stands behind one that takes a value is its value."""
    for before, arg in zip(("", *args), args, strict=False):
        if arg == "--":
            return None
        flag = arg.partition("=")[0]
        if _FLAG.fullmatch(flag) and flag not in flags and not flags.get(before, False):
            return flag
    return None


def _near(name: str, known: Iterable[str]) -> str:
    """Ask whether one of the ``known`` names was meant."""
    near = get_close_matches(name, list(known), cutoff=0.75)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def help_of(name: str, parent: Any) -> dict[str, Any]:
    """Return what a command's help says, from its function: what ``Deferred`` shows again, at any width."""
    command = COMMANDS[name].load(name)
    context = command.make_context(name, [], parent, resilient_parsing=True)
    parameters = command.get_params(context)
    records = {kind: [p.get_help_record(context) for p in parameters if p.param_type_name == kind] for kind in _KINDS}
    return {
        "help": command.help,
        "usage": command.collect_usage_pieces(context),
        "arguments": [record for record in records["argument"] if record],
        "options": [record for record in records["option"] if record],
    }


_KINDS = ("argument", "option")
_FLAG = re.compile(r"--[a-z][a-z0-9-]*")


@cache
def _stated() -> dict[str, Any]:
    return dict(json.loads(HELP.read_text(encoding="utf-8"))) if HELP.is_file() else {}
