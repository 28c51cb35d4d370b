"""Commands for apps that are written as data: export, import, schema."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import click

from actorflow.cli.shared import FILES, load, refused
from actorflow.deploy.registry import Form
from actorflow.errors import SpecError


@click.command()
@click.argument("target", metavar="MODULE:APP|FILE")
@click.option("--format", "form", type=click.Choice(["yaml", "json", "toml"]), help="By default that of FILE, or yaml.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
def export(target: str, form: Form | None, output: Path | None) -> None:
    """Write an app as data: its streams, cells, schedules and limits, with its functions by name.

    `actorflow run FILE` runs what was written. An app with closures is refused, with a line for each of them.
    """
    from actorflow.plan.spec import data_of_app, form_of, printed

    app = load(target)
    if form is None:
        form = form_of(output.name) if output is not None and output.suffix.lower() in FILES else "yaml"
    try:
        _give(_moved(printed(data_of_app(app), form), target, output), output)
    except SpecError as error:
        raise refused(error) from None


@click.command("import")
@click.argument("file", metavar="FILE")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
def import_(file: str, output: Path | None) -> None:
    """Print a Python module that builds the app that FILE says, to go on with as a program."""
    from actorflow.plan.spec import program_of

    try:
        _give(_moved(program_of(load(file), foreign="actorflow.wasm:named"), file, output), output)
    except SpecError as error:
        raise refused(error) from None


@click.command()
def schema() -> None:
    """Print the JSON Schema of apps that are written as data, for editors."""
    from actorflow.plan import spec

    click.echo(json.dumps(spec.schema(), indent=2))


def _moved(text: str, source: str, output: Path | None) -> str:
    """Return a text that leads to the same modules from another folder than that of the file it was made of."""
    if output is None or not source.lower().endswith(FILES):
        return text
    before, after = Path(source).parent, output.parent

    def moved(found: re.Match[str]) -> str:
        return f"wasm:{Path(os.path.relpath(before / found[1], after)).as_posix()}{found[2]}"

    return re.sub(r"""wasm:([^#"'\s]+)(#|(?=["'\s]))""", moved, text)


def _give(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file."""
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write to {output}: {error.strerror}") from None
