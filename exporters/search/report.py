"""What a search tried, as a table."""

from rich.console import Console
from rich.table import Table

from exporters.runtime.names import CPU
from exporters.search.results import Searched, Trial

_COLUMNS = ("field", "tried", "times the best so far", "cosine mean", "cosine min", "in batches", "result")


def as_markdown(result: Searched) -> str:
    """Return the page of a search."""
    return "\n".join(["# Search", "", *summary(result), "", trials(result)]) + "\n"


def trials(result: Searched) -> str:
    """Return what was tried as a Markdown table."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(row))} |" for row in result.trials)])


def print_search(result: Searched, out: Console) -> None:
    """Print the trials and the choice."""
    table = Table(*_COLUMNS, box=None)
    for row in result.trials:
        table.add_row(*_cells(row))
    out.print(table)
    for line in summary(result):
        out.print(line, markup=False, soft_wrap=True)


def summary(result: Searched) -> list[str]:
    """Say what was chosen, for which CPU, and what it gives."""
    choice = result.choice
    running = ", ".join(f"{name} {value}" for name, value in choice.running.as_dict().items())
    on = "" if choice.provider == CPU else f" on {choice.provider}"
    lines = [f"Chosen for {choice.cpu} ({', '.join(choice.cpu_features) or 'any features'}){on}:"]
    lines.append(f"{choice.form}; {running}.")
    if fallen := choice.figures.get("nodes_on_cpu_provider"):
        lines.append(f"{fallen:.0f} of its nodes run on {CPU}.")
    if ratio := choice.ratio:
        spread = f"{ratio.low:.3f} to {ratio.high:.3f}, {ratio.turns} turns"
        way = "questions in and answers" if "same_answers" in choice.figures else "text in and vectors"
        lines.append(f"{ratio.median:.3f} times as fast as the start ({spread}), {way} out.")
    return lines


def _cells(row: Trial) -> list[str]:
    ratio, figures = row.ratio, row.figures
    timed = f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})" if ratio else ""
    names = ("cosine_mean", "cosine_min", "batch_cosine_min")
    return [
        row.stage,
        row.name,
        timed,
        *(f"{figures[n]:.6g}" if n in figures else "" for n in names),
        row.verdict,
    ]
