"""Run the sides of a benchmark interleaved, in one process and on one uvloop, and print how they compare.

A machine that others share speeds up and slows down by a third within seconds. So every round runs each side once, the
sides' medians are compared, and a ratio is printed with its range over the rounds: only a ratio of one run means much.
"""

import argparse
import asyncio
import gc
import json
import math
import statistics
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

REPEATS = 5
REPEATS_QUICK = 3
TABLE_COLUMNS = 110  # where stdout is no terminal

Measured: TypeAlias = float | tuple[float, float]
Side: TypeAlias = Callable[[], Measured | Coroutine[object, object, Measured]]


class SkipSide(Exception):  # noqa: N818  # it reports no error: the side cannot run here, and the others go on
    """Raised by a side that cannot run here, such as a peer that is not installed; its message says what to do."""


class Goal(NamedTuple):
    """A ratio of two sides' medians and its target; without a denominator, a bound on the numerator itself.

    A plain tuple (numerator, denominator, target) does where the ratio should be at least the target.
    """

    numerator: str
    denominator: str | None
    target: float
    at_most: bool = False

    def is_met_by(self, ratio: float) -> bool:
        return ratio <= self.target if self.at_most else ratio >= self.target

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.target:g}"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line of a benchmark says."""

    quick: bool = False
    repeats: int = REPEATS

    def size(self, full: int, quick: int) -> int:
        """Return the size of a workload: `full` where figures are published, `quick` in CI."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Report:
    """The samples of each side that ran, in the order of the rounds, and the goals that they are held to."""

    benchmark: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    goals: Mapping[str, Goal]
    skipped: Mapping[str, str]

    @property
    def medians(self) -> dict[str, float]:
        return {side: statistics.median(values) for side, values in self.samples.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """Return the ratio of medians of each goal; a goal with a skipped side has none."""
        medians = self.medians
        return {
            name: medians[goal.numerator] / (1.0 if goal.denominator is None else medians[goal.denominator])
            for name, goal in self.goals.items()
            if goal.numerator in medians and (goal.denominator is None or goal.denominator in medians)
        }

    @property
    def targets(self) -> dict[str, float]:
        return {name: goal.target for name, goal in self.goals.items()}

    @property
    def met(self) -> dict[str, bool]:
        return {name: self.goals[name].is_met_by(ratio) for name, ratio in self.ratios.items()}

    def range_of(self, name: str) -> tuple[float, float]:
        """Return the least and the greatest value that a ratio had in one round."""
        goal = self.goals[name]
        values = self.samples[goal.numerator]
        if goal.denominator is not None:
            values = [of / to for of, to in zip(values, self.samples[goal.denominator], strict=True)]
        return min(values), max(values)


def parse_options(description: str | None = None, arguments: Sequence[str] | None = None) -> Options:
    """Return the options on the command line: `--quick` for smaller sizes and 3 repeats, `--repeats N`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and 3 repeats, for CI")
    parser.add_argument("--repeats", type=int, help=f"rounds to run (default {REPEATS}, with --quick {REPEATS_QUICK})")
    given = parser.parse_args(arguments)
    repeats = given.repeats or (REPEATS_QUICK if given.quick else REPEATS)
    return Options(quick=given.quick, repeats=repeats)


def compare(
    benchmark: str,
    *,
    sides: Mapping[str, Side],
    ratios: Mapping[str, Goal | tuple[str, str, float]],
    repeats: int = REPEATS,
    unit: str = "ops/s",
) -> Report:
    """Measure the sides, print their table, and print the report as the last line: one JSON object.

    A benchmark with several comparisons calls `measure` for each, then `publish` once.

    Raises:
        ValueError: a ratio names a side that is not given, or there is nothing to repeat.
    """
    report = measure(benchmark, sides=sides, ratios=ratios, repeats=repeats, unit=unit)
    publish(benchmark, report)
    return report


def measure(
    benchmark: str,
    *,
    sides: Mapping[str, Side],
    ratios: Mapping[str, Goal | tuple[str, str, float]],
    repeats: int = REPEATS,
    unit: str = "ops/s",
) -> Report:
    """Run each side once to warm up, then `repeats` rounds of all sides, and print their table on stdout.

    A side is a callable, plain or async, that returns operations per second (or any figure in `unit`), or
    (operations, seconds). Async sides share one uvloop, which runs during no plain side.

    Raises:
        ValueError: a ratio names a side that is not given, or there is nothing to repeat.
        Exception: whatever a side raises, except `SkipSide`, which leaves that side out.
    """
    goals = {name: Goal(*ratio) for name, ratio in ratios.items()}
    _check(benchmark, sides=sides, goals=goals, repeats=repeats)
    samples: dict[str, list[float]] = {side: [] for side in sides}
    skipped: dict[str, str] = {}
    steps = [(round_index, side) for round_index in range(-1, repeats) for side in sides]  # round -1 warms up
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, _progress(benchmark, len(steps)) as advance:
        for round_index, side in steps:
            advance(side)
            if side in skipped:
                continue
            gc.collect()
            try:
                sample = _run(sides[side], runner)
            except SkipSide as skip:
                skipped[side] = str(skip)
                del samples[side]
                continue
            except Exception as error:
                when = "while it warmed up" if round_index < 0 else f"in round {round_index + 1} of {repeats}"
                error.add_note(f"side {side!r} of benchmark {benchmark!r} raised this {when}")
                raise
            if round_index >= 0:
                samples[side].append(sample)
    report = Report(benchmark=benchmark, unit=unit, samples=samples, goals=goals, skipped=skipped)
    _stdout().print(table_of(report))
    for reason in dict.fromkeys(skipped.values()):
        _stdout().print(reason, markup=False)
    return report


def publish(benchmark: str, *reports: Report) -> None:
    """Print the reports as one line of JSON, the last line of a benchmark's stdout.

    A target without a ratio was not measured, since a side was skipped. Where there are several reports, the names of
    sides and ratios start with the name of their report.
    """
    line: dict[str, object] = {"benchmark": benchmark}
    for key in ("ratios", "targets", "medians", "met"):
        line[key] = {
            f"{report.benchmark}: {name}" if len(reports) > 1 else name: _rounded(value)
            for report in reports
            for name, value in getattr(report, key).items()
        }
    print(json.dumps(line), flush=True)


def table_of(report: Report) -> Table:
    """Return the table of a report: each side's median and spread, then each ratio with its target and verdict."""
    table = Table(title=escape(report.benchmark), title_justify="left", title_style="bold")
    table.add_column("name", overflow="fold")
    for heading in (f"median {report.unit}", "spread", "ratio", "range", "target", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for side, median in report.medians.items():
        values = report.samples[side]
        spread = (max(values) - min(values)) / median if median else math.nan
        table.add_row(escape(side), _readable(median), f"{spread:.0%}")
    for side in report.skipped:
        table.add_row(escape(side), "skipped")
    table.add_section()
    ratios, met = report.ratios, report.met
    for name, goal in report.goals.items():
        if name not in ratios:
            table.add_row(escape(name), "", "", "", "", str(goal), "not measured")
            continue
        least, greatest = report.range_of(name)
        verdict = "[green]met[/green]" if met[name] else "[red]missed[/red]"
        table.add_row(escape(name), "", "", f"{ratios[name]:.3g}", f"{least:.3g} … {greatest:.3g}", str(goal), verdict)
    return table


def _check(benchmark: str, *, sides: Mapping[str, object], goals: Mapping[str, Goal], repeats: int) -> None:
    if repeats < 1:
        message = f"benchmark {benchmark!r} is to repeat {repeats} times; expected at least 1"
        raise ValueError(message)
    for name, goal in goals.items():
        for side in (goal.numerator, goal.denominator):
            if side is not None and side not in sides:
                message = f"ratio {name!r} of benchmark {benchmark!r} names side {side!r}; its sides are {list(sides)}"
                raise ValueError(message)


def _run(side: Side, runner: asyncio.Runner) -> float:
    measured = side()
    if asyncio.iscoroutine(measured):
        measured = runner.run(measured)
    if isinstance(measured, tuple):
        operations, seconds = measured
        return operations / seconds
    return measured


@contextmanager
def _progress(benchmark: str, steps: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on stderr and yield what advances it.

    It is drawn between the sides only: a thread that redraws it would take the interpreter from the side that runs.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        task = bar.add_task(benchmark, total=steps)
        begun = 0

        def advance(side: str) -> None:
            nonlocal begun
            bar.update(task, completed=begun, description=f"{benchmark}: {side}", refresh=True)
            begun += 1

        yield advance


def _stdout() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=TABLE_COLUMNS)


def _readable(figure: float) -> str:
    for scale, prefix in ((1e6, " M"), (1e3, " k")):
        if figure >= scale:
            return f"{figure / scale:.3g}{prefix}"
    return f"{figure:.3g}"


def _rounded(value: object) -> object:
    """Return a figure with four significant digits, since more would be noise; and anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
