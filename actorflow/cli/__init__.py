"""The `actorflow` command."""

from actorflow.cli.main import main

__all__ = ["main"]
