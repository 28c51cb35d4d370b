"""Commands that look at an app before it runs: check, graph, streams."""

from __future__ import annotations

import json
import sys

import click
from rich.markup import escape
from rich.table import Table

from actorflow.cli.shared import EXIT_FAILED, console, load
from actorflow.errors import ActorflowError
from actorflow.plan.app import AppPlan
from actorflow.plan.check import faults_of
from actorflow.plan.check_cells import matrix, notes_of, purity_of, uses_of
from actorflow.plan.draw import to_json, to_mermaid, to_svg

CELLS_IN_TABLE = 8


@click.command()
@click.argument("target", metavar="MODULE:APP|FILE")
@click.option("--json", "as_json", is_flag=True, help="All that is known, as JSON on standard output.")
def check(target: str, *, as_json: bool) -> None:
    """Find every fault of an app before anything starts; exits with 1 if there is one.

    Prints which operator touches which cell, how, and why that is safe; which streams are pure (can be begun again from
    their input); and what may run but is probably not meant.
    """
    app = load(target)
    faults = list(faults_of(app))
    if as_json:
        click.echo(json.dumps({**matrix(app), "faults": faults}, indent=2))
        sys.exit(EXIT_FAILED if faults else 0)
    if app.cells:
        _show_matrix(app)
    for note in notes_of(app):
        console.print(f"[yellow]•[/yellow] {escape(note)}")
    for fault in faults:
        console.print(f"[red]✗[/red] {escape(fault)}")
    if faults:
        console.print(f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in app {app.name}")
        sys.exit(EXIT_FAILED)
    steps = sum(len(topology.steps) for topology in app.streams.values())
    console.print(f"[green]✓[/green] app {app.name}: {len(app.streams)} streams with {steps} steps, no faults")


def _show_matrix(app: AppPlan) -> None:
    """Print the operators and the cells they touch, and what follows for the streams."""
    uses = uses_of(app)
    touched = [name for name in app.cells if any(use.cell == name for use in uses)]
    table = Table(title=f"shared state of {app.name}", title_justify="left", title_style="bold")
    for heading in ("operator", "keyed by", *touched):
        table.add_column(heading, overflow="fold")
    squares: dict[tuple[str, str], dict[str, str]] = {}
    for use in uses:
        mark = "[green]✓[/green]" if use.safe else "[red]✗[/red]"
        row = squares.setdefault((f"{use.stream}/{use.operator}", use.key or ""), {})
        row[use.cell] = " ".join(filter(None, (row.get(use.cell), f"{mark} {use.access}")))
    for (operator, key), row in squares.items():
        table.add_row(operator, key, *(row.get(name, "") for name in touched))
    if len(touched) <= CELLS_IN_TABLE:  # more columns than that would be a letter wide
        console.print(table)
    for use in uses:
        if use.safe:
            why = f"{use.stream}/{use.operator}, {use.cell}.{use.access}: {use.reason}"
            console.print(f"[green]✓[/green] {escape(why)}", soft_wrap=True)
    for verdict in purity_of(app).values():
        reads = f", reads {', '.join(verdict.reads)}" if verdict.reads else ""
        what = "pure" if verdict.pure else f"writes ({'; '.join(verdict.writes)})"
        console.print(f"  stream [bold]{verdict.stream}[/bold]: {escape(what + reads)}")


@click.command()
@click.argument("target", metavar="MODULE:APP|FILE")
@click.argument("stream", required=False)
@click.option("--mermaid", "form", flag_value="mermaid", default=True, help="Mermaid text (the default).")
@click.option("--svg", "form", flag_value="svg", help="An SVG picture; names a single STREAM where there are several.")
@click.option("--json", "form", flag_value="json", help="Steps and edges as JSON.")
def graph(target: str, stream: str | None, form: str) -> None:
    """Draw the streams of an app, or one of them."""
    app = load(target)
    try:
        chosen = [app[stream].topology] if stream else list(app.streams.values())
    except ActorflowError as error:
        raise click.ClickException(str(error)) from None
    if form == "json":
        click.echo(json.dumps([to_json(topology) for topology in chosen], indent=2))
    elif form == "mermaid":
        for topology in chosen:
            click.echo(f"%% stream {topology.stream}\n{to_mermaid(topology)}")
    elif len(chosen) != 1:
        raise click.UsageError(f"an SVG shows one stream; name one of: {', '.join(app.streams)}")
    else:
        click.echo(to_svg(chosen[0]), nl=False)


@click.command()
@click.argument("target", metavar="MODULE:APP|FILE")
def streams(target: str) -> None:
    """List the streams of an app with what they take and how they answer."""
    for name, topology in load(target).streams.items():
        taken, made = (getattr(kind, "__name__", str(kind)) for kind in (topology.request_type, topology.reply_type))
        path = " → ".join(step.name for step in topology.steps)
        click.echo(f"{name}  {taken} → {made} ({topology.replies})\n    {path}")
