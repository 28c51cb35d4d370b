"""Carrying a coroutine on: its first step was taken where it was called, the rest is for a task."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from typing import Any


@types.coroutine
def carry_on(
    coroutine: Coroutine[Any, Any, Any], awaited: Any, cancelled: BaseException | None = None
) -> Generator[Any, Any, Any]:
    """Await what a coroutine awaited in its first step, then the rest of the coroutine."""
    while True:
        try:
            if cancelled is not None:
                raised, cancelled = cancelled, None
                raise raised
            yield awaited
        except BaseException as error:
            try:
                awaited = coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            return (yield from coroutine)
