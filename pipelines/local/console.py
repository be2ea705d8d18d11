"""Terminal output of a run: its steps while it runs, then the metrics, the verdict and the paths."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from loraline.artifacts.evaluation import FIGURE_LABELS
from loraline.progress_display import move_bar, progress_bar
from loraline.units import format_bytes
from pipelines.local.run import LocalStep
from pipelines.local.summary import Summary

if TYPE_CHECKING:
    from loraline.feasibility import Feasibility
    from loraline.models.memory_estimate import MemoryEstimate

_STYLES = {"done": "green", "cached": "cyan", "failed": "bold red"}


class ConsoleWatcher:
    """Shows a run on a terminal: a line for each finished step, a progress bar for the running one.

    If the output is not a terminal, only the lines are written.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar = progress_bar(console, indent="  ")

    def __enter__(self) -> "ConsoleWatcher":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step_started(self, step: LocalStep) -> None:
        """Show an empty progress bar for the step."""
        self._clear()
        self.bar.add_task(f"{step.name:<16}", total=None, detail="")

    def progressed(self, step: LocalStep, event: dict[str, Any]) -> None:
        """Update the progress bar."""
        move_bar(self.bar, self.bar.task_ids[-1], event)

    def noted(self, text: str) -> None:
        """Write a line above the progress bar."""
        self.console.print(f"  {'':<16}  [dim]{text}[/dim]", highlight=False, soft_wrap=True)

    def step_ended(self, step: LocalStep) -> None:
        """Write the step's line."""
        self._clear()
        style = _STYLES[step.state]
        self.console.print(
            f"  {step.name:<16}  [{style}]{step.state:<6}[/{style}] {step.seconds:6.1f} s  {step.headline}",
            highlight=False,
            soft_wrap=True,
        )

    def _clear(self) -> None:
        for task in self.bar.task_ids:
            self.bar.remove_task(task)


def show_summary(console: Console, summary: Summary) -> None:
    """Print the metrics of base and tuned model, the verdict with its reasons, and the paths."""
    table = Table(title="held-out examples", title_justify="left", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in ("", "base", "tuned", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for name, label in FIGURE_LABELS.items():
        base, tuned = summary.base.figure(name), summary.tuned.figure(name)
        if base is not None and tuned is not None:
            table.add_row(label, f"{base:.4g}", f"{tuned:.4g}", f"{tuned - base:+.4g}")
    console.print()
    console.print(table)
    style = "bold green" if summary.verdict == "promote" else "bold yellow"
    console.print(f"\n[{style}]{summary.verdict}[/{style}]", highlight=False)
    for reason in summary.reasons:
        console.print(f"  - {reason}", highlight=False, markup=False, soft_wrap=True)
    paths = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for place, path in summary.where.items():
        paths.add_row(place.replace("_", " "), str(path))
    console.print()
    console.print(paths, soft_wrap=True)


def show_feasibility(console: Console, feasibility: "Feasibility") -> None:
    """Print that nothing stands against a base, and what was not looked at."""
    if not feasibility.unchecked:
        console.print(f"{feasibility.source} can be trained, merged and exported\n", highlight=False, markup=False)
    for unchecked in feasibility.unchecked:
        console.print(f"not looked at here: {unchecked}\n", highlight=False, markup=False, soft_wrap=True)


def show_memory_estimate(console: Console, estimate: "MemoryEstimate") -> None:
    """Print a memory estimate: needed, available, and settings to change."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("memory for")
    table.add_column("bytes", justify="right")
    table.add_column("how")
    for item in estimate.items:
        table.add_row(item.name, format_bytes(item.size), item.basis)
    table.add_row(
        "[bold]in all[/bold]",
        f"[bold]{format_bytes(estimate.needed)}[/bold]",
        f"of {format_bytes(estimate.capacity)} on {estimate.device}",
    )
    console.print(table)
    console.print(
        f"\n{estimate.parameters / 1e6:,.1f}M parameters; the adapter has {estimate.trainable_parameters / 1e6:,.2f}M",
        highlight=False,
    )
    verdict = "[bold green]fits[/bold green]" if estimate.fits else "[bold red]does not fit[/bold red]"
    console.print(f"{verdict}" + ("" if estimate.fits else "; what would help:"))
    for change in estimate.changes:
        console.print(
            f"  {change.setting}: {format_bytes(change.needed)}{'' if change.fits else ', still too much'}",
            highlight=False,
        )
