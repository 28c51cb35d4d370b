"""What clients ask a host about itself: the verbs of ASK frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actorflow.errors import UnknownStreamError, summary
from actorflow.runtime.host import Host
from actorflow.runtime.looking import (
    REQUESTS_SHOWN_MAX,
    details_of,
    host_of,
    line_of,
    request_of,
    requests_of,
    streams_of,
)
from actorflow.runtime.reading import LIMIT, hashable, list_cells, list_locks, parse_key, read_cell, read_range
from actorflow.runtime.request import UNSET


def told(host: Host, verb: str, argument: Any) -> Any:
    """Return what a client wants to know, or do what it asks for.

    Raises: UnknownStreamError when there is no such verb, or nothing of that name; InvalidItemError.
    """
    known = VERBS.get(verb)
    if known is None or not known[0](argument):
        raise UnknownStreamError(
            f"nothing known to do by {verb!r} with {summary(argument)} (verbs: {', '.join(VERBS)})"
        )
    return known[1](host, argument)


def _cancel(host: Host, request_id: str) -> bool:
    request = host.find(request_id)
    if request is not None:
        request.cancel()
    return request is not None


def _unset(value: Any) -> Any:
    return UNSET if value is None else hashable(value)


def _cell(host: Host, argument: list[Any]) -> Any:
    name, key = argument
    return read_cell(host, name, _unset(key))


def _range(host: Host, argument: list[Any]) -> list[list[Any]]:
    name, start, end, limit = argument
    found = read_range(host, name, start=_unset(start), end=_unset(end), limit=LIMIT if limit is None else limit)
    return [list(pair) for pair in found]


def _state(host: Host, argument: list[Any]) -> Any:
    """Return what a cell holds: under a key that was written as text, in a range, or all of one without keys."""
    name, key, start, end, limit = argument
    cell = host.app.cells.get(name)
    if key is not None:
        return read_cell(host, name, parse_key(host, name, key))
    if cell is not None and (cell.space is None or cell.kind == "value"):
        return read_cell(host, name)
    first, last = (UNSET if text is None else parse_key(host, name, text) for text in (start, end))
    return [list(pair) for pair in read_range(host, name, start=first, end=last, limit=limit)]


def _forget(host: Host, number: int) -> None:
    host.dead_letters.forget(number)


def _requests(host: Host, argument: list[Any]) -> list[dict[str, Any]]:
    stream, limit = argument
    return [line_of(request) for request in requests_of(host, stream=stream, limit=limit)]


def _request(host: Host, request_id: str) -> dict[str, Any]:
    return details_of(request_of(host, request_id))


def _is_choice(argument: Any) -> bool:
    """Return whether an argument is a stream's name, or nil, and how many requests of it are wanted."""
    return (
        type(argument) is list
        and len(argument) == 2
        and type(argument[0]) in {str, type(None)}
        and type(argument[1]) is int
        and 0 < argument[1] <= REQUESTS_SHOWN_MAX
    )


def _is_name(argument: Any, count: int) -> bool:
    return type(argument) is list and len(argument) == count and type(argument[0]) is str


VERBS: dict[str, tuple[Callable[[Any], bool], Callable[[Host, Any], Any]]] = {
    "cancel": (lambda argument: type(argument) is str, _cancel),
    "dead_letters": (lambda _: True, lambda host, _: [letter.to_wire() for letter in host.dead_letters.list()]),
    "replay": (lambda argument: type(argument) is int, lambda host, number: host.dead_letters.replay(number)),
    "forget_dead_letter": (lambda argument: type(argument) is int, _forget),
    "streams": (lambda _: True, lambda host, _: streams_of(host)),
    "ps": (lambda _: True, lambda host, _: host_of(host)),
    "requests": (_is_choice, _requests),
    "request": (lambda argument: type(argument) is str, _request),
    "cells": (lambda _: True, lambda host, _: list_cells(host)),
    "cell": (lambda argument: _is_name(argument, 2), _cell),
    "range": (lambda argument: _is_name(argument, 4) and type(argument[3]) in {int, type(None)}, _range),
    "state": (lambda argument: _is_name(argument, 5) and type(argument[4]) is int, _state),
    "locks": (lambda _: True, lambda host, _: list_locks(host)),
}
"""By name: whether an argument is of the right kind, and what is done."""
