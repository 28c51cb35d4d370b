"""What travels inside a host.

An envelope is a plain tuple `(request, context, items)`: the request carries the header that all its envelopes share
(id, deadline, return address, counts), so an envelope costs one tuple and one list. `context` is None unless the
envelope has something of its own: it is then a `Context`.
"""

from __future__ import annotations

from typing import Any


class Context:
    """What one envelope has of its own.

    frames: the return stack, newest frame first, as a linked list (None when empty).
    ask: where the answer goes when the envelope is an `ask` (None for a `tell` or a stream edge).
    rounds: how often the items have been round each of the loops around them whose rounds somebody asks for.
    """

    __slots__ = ("ask", "frames", "rounds")

    def __init__(self, frames: Frame | None = None, ask: Any = None, rounds: tuple[int, ...] = ()) -> None:
        self.frames = frames
        self.ask = ask
        self.rounds = rounds


class Frame:
    """One entry of a return stack: an operator that asked to see the reply to what it handed on.

    replica: the replica whose `on_reply` is called.   item: what it had processed.
    below: the frame that sees the reply next (None: the requester).   depth: frames below, this one included.
    done: the reply or an error has passed through.
    """

    __slots__ = ("below", "depth", "done", "item", "replica")

    def __init__(self, replica: Any, item: Any, below: Frame | None) -> None:
        self.replica = replica
        self.item = item
        self.below = below
        self.depth: int = below.depth + 1 if below is not None else 1
        self.done = False


def common_frames(first: Frame | None, second: Frame | None) -> Frame | None:
    """Return the longest common part of two return stacks: what a fold or a join passes on."""
    while first is not second:
        if first is None or second is None:
            return None
        if first.depth >= second.depth:
            first = first.below
        else:
            second = second.below
    return first
