"""A stream's graph as a value: steps and edges, to be inspected, checked, drawn and run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from actorflow import codec
from actorflow.plan.folds import Fold
from actorflow.plan.operator import OnError, Operator, Restart
from actorflow.plan.rounds import Rounds

Replies: TypeAlias = Literal["one", "many", "none"]
Gathering: TypeAlias = Literal["inner", "left", "outer"]

ERRORS, FEEDBACK = "errors", "feedback"
"""Outputs of an operator: items that failed, and what it gives to `self.feedback`."""
AGAIN, END, BACK = "again", "end", "back"
"""Of a loop: the output of what goes round, that of its `LoopEnd`, and the input of what comes back."""


@dataclass(frozen=True, slots=True)
class KeySpace:
    """A named space of keys, cut in a fixed number of shards: the unit of ownership and of moving."""

    name: str
    shards: int = 256

    def shard_of(self, key: Any) -> int:
        """Return the number of the shard that a key belongs to: the same on every host and after every restart.

        Raises: CodecError for a key that cannot travel.
        """
        return zlib.crc32(codec.encode(key)) % self.shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a topology. `number` counts the steps of the stream, `name` is unique in it."""

    kind: ClassVar[str] = "step"
    number: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Step):
    """Where the items of a request come in."""

    kind = "entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Step):
    """A generator that each request starts: `make(request)` yields the items."""

    kind = "source"
    make: Callable[..., Iterable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function(Step):
    """A stateless function: fused into the step after it."""

    kind = "function"
    shape: Literal["map", "filter", "flat_map"]
    call: Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBy(Step):
    """What follows works by this key; `key` None means that the item is its own key."""

    kind = "key_by"
    key: Callable[[Any], Any] | None
    field: str | None
    space: KeySpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Then(Step):
    """A user's operator."""

    kind = "operator"
    operator: type[Operator]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    replicas: int = 1
    concurrency: int | None = None
    on_error: OnError | None = None
    restart: Restart | None = None
    mailbox_envelopes: int | None = None
    priority: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Step):
    """A fold over the items of one request, per key where the items are keyed."""

    kind = "fold"
    fold: Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Join(Step):
    """Pairs of items of the inputs "left" and "right" that have the same key."""

    kind = "join"
    left_key: Callable[[Any], Any]
    right_key: Callable[[Any], Any]
    how: Gathering


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStream(Step):
    """A child request per item; its replies go on."""

    kind = "call"
    stream: str
    concurrency: int = 64
    ordered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Step):
    """Each item leaves by the one output that `choose` names."""

    kind = "route"
    choose: Callable[[Any], Any]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge(Step):
    """Several inputs, one output, in order of arrival."""

    kind = "merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard(Step):
    """Items end here and are no replies."""

    kind = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback(Step):
    """Where items turn back: those that `when` selects (None: all) leave by "again", along an edge that leads back.

    The others go on. With `rounds` items go round together, and what would go back after the last round goes on too.
    An item that goes round more than `trips_max` times fails its request.
    """

    kind = "feedback"
    when: Callable[[Any], Any] | None = None
    trips_max: int | None = None
    rounds: Rounds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(Step):
    """Keeps its items and sends them by "again" in every round; what comes "back" is votes; the last state goes on."""

    kind = "replay"
    rounds: Rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta(Step):
    """Keeps the best value of each key; pairs that are better go round by "again", and at the end all go on.

    priority: what is smaller goes first, up to `ahead` pairs at a time.   rounds: None where items need not wait.
    """

    kind = "delta"
    combine: Callable[[Any, Any], Any]
    priority: Callable[[Any], Any] | None = None
    ahead: int = 64
    rounds: Rounds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WithLoopState(Step):
    """Pairs each item with the state of the loop around it."""

    kind = "loop_state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Step):
    """What arrives here is a reply of the stream."""

    kind = "reply"


@dataclass(frozen=True, slots=True)
class Edge:
    """From one step's output to another's input; both are named where a step has several. `back` closes a loop."""

    source: int
    target: int
    output: str = ""
    input: str = ""
    back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A stream: its steps and edges, what it takes and how it answers. Immutable."""

    stream: str
    request_type: Any = Any
    reply_type: Any = Any
    replies: Replies = "one"
    early: bool = False
    timeout_s: float | None = None
    in_flight: int | None = None
    on_error: OnError = "fail"
    restart: Restart = field(default_factory=Restart)
    steps: tuple[Step, ...] = ()
    edges: tuple[Edge, ...] = ()
    _ends: tuple[dict[int, list[Edge]], dict[int, list[Edge]]] = field(
        default_factory=lambda: ({}, {}), init=False, repr=False, compare=False
    )
    """Edges by their sources, and those that lead forward by their targets."""

    def __post_init__(self) -> None:
        leaving, entering = self._ends
        for edge in self.edges:
            leaving.setdefault(edge.source, []).append(edge)
            if not edge.back:
                entering.setdefault(edge.target, []).append(edge)

    def outputs_of(self, number: int) -> Sequence[Edge]:
        """Return the edges that leave a step, in the order in which they were drawn."""
        return self._ends[0].get(number, ())

    def inputs_of(self, number: int) -> Sequence[Edge]:
        """Return the edges that lead forward to a step."""
        return self._ends[1].get(number, ())

    def keys_before(self, number: int) -> list[KeyBy]:
        """Return the `key_by`s whose keys a step's items have, with only filters between; none if a way has no key."""
        found: list[KeyBy] = []
        todo = [edge.source for edge in self.inputs_of(number)]
        while todo:
            source = self.steps[todo.pop()]
            if isinstance(source, KeyBy):
                found.append(source)
            elif isinstance(source, Function) and source.shape == "filter":
                todo += [edge.source for edge in self.inputs_of(source.number)]
            else:
                return []
        return found

    def key_before(self, number: int) -> KeyBy | None:
        """Return the `key_by` of a step's items; None where there is none, or where its edges make keys differently."""
        found = self.keys_before(number)
        same = {(each.space, each.field or each.key) for each in found}
        return found[0] if len(same) == 1 else None

    def entries(self) -> list[Step]:
        """Return the steps at which items come in."""
        return [step for step in self.steps if isinstance(step, (Entry, Source))]

    def reached(self) -> set[int]:
        """Return the numbers of the steps that an item can reach from an entry."""
        seen = {step.number for step in self.entries()}
        ahead = list(seen)
        while ahead:
            for edge in self.outputs_of(ahead.pop()):
                if edge.target not in seen:
                    seen.add(edge.target)
                    ahead.append(edge.target)
        return seen

    def cycle(self) -> list[Step] | None:
        """Return the steps of one cycle that no feedback edge closes, or None when there is none."""
        by_number = {step.number: step for step in self.steps}
        finished: set[int] = set()
        for start in by_number:
            path: list[int] = []
            walk = [(start, iter(self._forward(start)))] if start not in finished else []
            while walk:
                number, ahead = walk[-1]
                if len(path) < len(walk):
                    path.append(number)
                edge = next(ahead, None)
                if edge is None:
                    finished.add(number)
                    walk.pop()
                    path.pop()
                elif edge.target in path:
                    return [by_number[n] for n in path[path.index(edge.target) :]]
                elif edge.target not in finished:
                    walk.append((edge.target, iter(self._forward(edge.target))))
        return None

    def _forward(self, number: int) -> list[Edge]:
        return [edge for edge in self.outputs_of(number) if not edge.back]
