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
    from loraline.memory_plan import MemoryPlan

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


def show_memory_plan(console: Console, plan: "MemoryPlan") -> None:
    """Print what each phase of a run needs, the items of the phase that needs the most, and settings to change."""
    training, worst = plan.training, plan.worst
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("memory for")
    table.add_column("bytes", justify="right")
    table.add_column("how")
    for phase in plan.phases:
        if phase is worst:
            for item in phase.items:
                table.add_row(item.name, format_bytes(item.size), item.basis)
            available = f"of {format_bytes(phase.capacity)} on {training.device}"
            table.add_row(f"[bold]{phase.name}[/bold]", f"[bold]{format_bytes(phase.needed)}[/bold]", available)
    for phase in plan.phases:
        if phase is not worst:
            parts = ", ".join(f"{item.name} {format_bytes(item.size)}" for item in phase.items)
            table.add_row(phase.name, format_bytes(phase.needed), parts)
    console.print(table)
    console.print(
        f"\n{training.parameters / 1e6:,.1f}M parameters; the adapter has {training.trainable_parameters / 1e6:,.2f}M",
        highlight=False,
    )
    too_large = ", ".join(phase.name for phase in plan.phases if not phase.fits)
    if not too_large:
        console.print(f"[bold green]fits[/bold green]; {worst.name} needs the most")
        return
    console.print(f"[bold red]does not fit[/bold red]: {too_large}{'; what would help:' if training.changes else ''}")
    for change in training.changes:
        console.print(
            f"  {change.setting}: {format_bytes(change.needed)}{'' if change.fits else ', still too much'}",
            highlight=False,
        )
    if not plan.evaluation.fits:
        console.print("  the evaluation: a smaller evaluation.batch_size or training.max_length", highlight=False)
