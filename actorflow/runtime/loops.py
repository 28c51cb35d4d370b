"""The loops of a running stream: how far a request is in them, and the rounds that its items are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from actorflow.envelope import Context
from actorflow.plan.loops import Loop
from actorflow.report import LoopReport
from actorflow.runtime.gate import Gate
from actorflow.runtime.request import Request
from actorflow.runtime.steps import Put

if TYPE_CHECKING:
    from actorflow.runtime.wiring import Wiring


class RunningLoop:
    """A loop of a running stream.

    gate: of a synchronous loop.   slot: where its round stands in the rounds of a context (None: nobody asked for it).
    """

    __slots__ = ("gate", "loop", "slot", "stream")

    def __init__(self, stream: Wiring, loop: Loop, slot: int | None, gate: Gate | None) -> None:
        self.stream = stream
        self.loop = loop
        self.slot = slot
        self.gate = gate

    def round_of(self, request: Request, context: Context | None) -> int:
        """Return the round that a request's item is in. Raises: TypeError when nobody counts."""
        if self.gate is not None:
            run = self.gate.run_of(request)
            return run.round if run is not None else 0
        if self.slot is None:
            raise TypeError(
                f"loop {self.loop.name} of stream {self.stream.name} does not count its rounds, since no operator in "
                "it names self.round; set tells_round = True on one of them"
            )
        rounds = context.rounds if context is not None else ()
        return rounds[self.slot] if len(rounds) > self.slot else 0

    def report(self, request: Request) -> LoopReport | None:
        """Return how far a request is in this loop, None when it is not in it."""
        regions = self.stream.regions
        items = sum(request.counts[region] for region in {regions.into[number] for number in self.loop.steps})
        if self.gate is not None:
            run = self.gate.run_of(request)
            if run is None:
                return None
            items += sum(member.waiting(run) for member in self.gate.members)
            return LoopReport(self.loop.name, items, max(run.round, 0), run.state)
        trips = request.details.trips.get(self.loop.number, 0) if request.details is not None else 0
        return LoopReport(self.loop.name, items, None if self.slot is None else trips) if items else None


def crossing(put: Put, *, keep: int, add: int) -> Put:
    """Return a `put` for an edge that leads into loops whose rounds are told, or out of them.

    keep: how many rounds of the context stay.   add: how many begin at 0.
    """
    zeros = (0,) * add
    first: Any = Context(rounds=zeros) if add else None
    seen: Any = _NEVER
    made: Context | None = None

    def cross(request: Request, context: Context | None, items: list[Any]) -> None:
        nonlocal seen, made
        if context is None:
            if not keep:
                put(request, first, items)
                return
        elif context is seen:
            put(request, made, items)
            return
        had = context.rounds if context is not None else ()
        rounds = (*had[:keep], *(0,) * (keep - len(had)), *zeros)
        frames = context.frames if context is not None else None
        told = Context(frames, None, rounds) if frames is not None or rounds else None
        if frames is None:
            seen, made = context, told  # a context that tells rounds only is the same for every request
        put(request, told, items)

    return cross


_NEVER: Any = object()


def nested_slots(loops: Iterable[Loop]) -> Iterator[tuple[Loop, int | None]]:
    """Yield each loop with its place among the rounds that a context tells: only asynchronous loops have one."""
    depth: dict[int | None, int] = {None: 0}
    for loop in loops:
        slot = depth[loop.parent]
        counted = loop.told and loop.gate is None
        depth[loop.number] = slot + 1 if counted else slot
        yield loop, slot if counted else None
