"""A stream as it runs on this host: its topology, compiled to nodes that hand items to one another.

Stateless functions are fused into one pass over a batch; steps that need no mailbox of their own run in the turn of
whoever hands them items (`runtime.steps`); operators have replicas.
"""

from __future__ import annotations

import copy
import inspect
import typing
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from actorflow.core import progress
from actorflow.core.progress import Regions
from actorflow.envelope import Context
from actorflow.errors import ActorflowError, InvalidItemError, summary
from actorflow.plan.loops import Loop, around, loops_of, watches_rounds
from actorflow.plan.operator import Operator
from actorflow.plan.topology import (
    AGAIN,
    BACK,
    END,
    ERRORS,
    FEEDBACK,
    CallStream,
    Delta,
    Discard,
    Edge,
    Entry,
    Feedback,
    Function,
    Gather,
    Join,
    KeyBy,
    Replay,
    Reply,
    Route,
    Source,
    Step,
    Then,
    Topology,
    WithLoopState,
)
from actorflow.runtime.asynchronous import AsyncReplica
from actorflow.runtime.cells import Entries
from actorflow.runtime.delta import Improving
from actorflow.runtime.feeding import FeedingReplica
from actorflow.runtime.gate import Gate, Turn
from actorflow.runtime.generating import GeneratorReplica
from actorflow.runtime.loops import RunningLoop, crossing, nested_slots
from actorflow.runtime.ordered import OrderedReplica
from actorflow.runtime.owning import OWNING
from actorflow.runtime.plain import BatchReplica, PlainReplica
from actorflow.runtime.replica import Replica, behaviour
from actorflow.runtime.request import Request
from actorflow.runtime.round_end import end_round
from actorflow.runtime.steps import (
    Calling,
    Folding,
    Fused,
    Joining,
    Node,
    Pass,
    Put,
    Replying,
    Router,
    fan_out,
    nowhere,
    through_codec,
)
from actorflow.runtime.turns import Feeding, GatedFeeding, QueuedFeeding, Replaying, StatePairing

if TYPE_CHECKING:
    from actorflow.runtime.host import Host

KINDS: dict[str, type[Replica]] = {
    "plain": PlainReplica,
    "batch": BatchReplica,
    "generator": GeneratorReplica,
    "async": AsyncReplica,
}


class FunctionOperator(Operator):
    """A function in an operator's place: a generator, which is pulled batch by batch, or a coroutine function."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.process = call


class OperatorNode(Node):
    """An operator of a stream and its replicas on this host."""

    __slots__ = (
        "actor_nodes",
        "args",
        "batches",
        "concurrency",
        "ends_rounds_async",
        "feed",
        "feeds",
        "gate",
        "key",
        "kind",
        "kwargs",
        "loops",
        "mailbox_envelopes",
        "next_replica",
        "operator",
        "owned",
        "owned_shared",
        "place",
        "priority",
        "region",
        "replica_count",
        "replica_kind",
        "replicas",
        "returns",
        "streams",
        "writes",
    )  # fmt: skip

    def __init__(
        self,
        stream: Wiring,
        step: Step,
        operator: type[Operator],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        key: Callable[[Any], Any] | None = None,
        region: int | None = None,
        place: object | None = None,
    ) -> None:
        super().__init__(stream, step)
        self.operator = operator
        self.args = args
        self.kwargs = kwargs or {}
        self.key = key
        self.region: int = stream.regions.into[step.number] if region is None else region
        sample = args[0] if operator is FunctionOperator else operator
        kind = _function_kind(sample) if operator is FunctionOperator else behaviour(operator)
        assert kind is not None, "checked before start"
        self.kind = kind
        self.batches = self.kind in {"batch", "async"} and getattr(operator, "process", None) is None
        if operator is FunctionOperator:
            self.batches = False
        self.concurrency = operator.concurrency
        self.replica_count = 1
        self.feed: Put | None = None  # where `self.feedback` leads
        self.loops = stream.loops_around(step.number)  # the outermost first
        self.gate: Gate | None = next((loop.gate for loop in reversed(self.loops) if loop.loop.synchronous), None)
        self.ends_rounds_async = inspect.iscoroutinefunction(getattr(operator, "on_round_end", None))
        self.feeds = any(edge.output == FEEDBACK for edge in stream.topology.outputs_of(step.number))
        self.priority: Callable[[Any], Any] | None = None
        self.replica_kind: type[Replica] = FeedingReplica if kind == "plain" and self.feeds else KINDS[kind]
        self.mailbox_envelopes = stream.host.limits.mailbox_envelopes
        self.returns = hasattr(operator, "on_reply")
        self.streams = stream.replies == "many"
        if operator.on_error != "fail":
            self.on_error = operator.on_error
        if isinstance(step, Then) and step.operator is operator:
            self.concurrency = step.concurrency or self.concurrency
            self.replica_count = step.replicas
            self.mailbox_envelopes = step.mailbox_envelopes or self.mailbox_envelopes
            self.on_error = step.on_error or self.on_error
            self.priority = step.priority
            if step.priority is not None:
                self.replica_kind = OrderedReplica
        # what it owns: the key of an item is its own for as long as it works on it
        accesses = list(stream.host.accesses(operator).values())
        owned = [access for access in accesses if access.how == "owned"]
        self.writes = any(access.writes for access in accesses)
        self.owned: Entries | None = stream.host.cells[owned[0].cell.name] if owned and key is not None else None
        self.owned_shared = all(access.read_only for access in owned)
        if self.owned is not None and self.replica_kind in OWNING:
            self.replica_kind = OWNING[self.replica_kind]
        if self.batches and key is not None and self.owned is None:
            self.concurrency = 1  # batches have keys in common: without locks they are serial
        self.place: object = object() if place is None else place  # the same where items are counted together
        self.replicas: list[Replica] = []
        self.next_replica = 0
        self.actor_nodes: dict[type[Operator], OperatorNode] = {}

    def make(self) -> Operator:
        """Return a new instance of the operator, ready to be told which activation it works in."""
        op = self.operator(*self.args, **self.kwargs)
        self.stream.host.bind(op, self.kind, feeds=self.feeds)
        return op

    def start(self) -> None:
        """Make the replicas; `put` becomes the only replica's own where there is one."""
        kind = self.replica_kind
        for index in range(self.replica_count):
            self.replicas.append(kind(self.stream.host, self, self.make(), index))
        self.put = self.replicas[0].put if self.replica_count == 1 else self.receive

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Give an envelope to the replica whose turn it is; a large one is shared among all."""
        replicas = self.replicas
        count = len(replicas)
        share = -(-len(items) // count) if len(items) >= 2 * count else len(items)
        for start in range(0, len(items), share):
            self.next_replica = (self.next_replica + 1) % count
            replicas[self.next_replica].put(request, context, items[start : start + share])

    def finish(self, request: Request) -> bool:
        """End a round: only operators that define `on_round_end` are told."""
        return end_round(self, request)

    def actor_node(self, operator: type[Operator]) -> OperatorNode:
        """Return the node of actors of a class that this operator spawns: counted and handed on where it is."""
        node = self.actor_nodes.get(operator)
        if node is None:
            step = self.stream.topology.steps[self.number]
            node = OperatorNode(self.stream, step, operator, region=self.region, place=self.place)
            node.name = operator.__name__
            node.hand_on = self.hand_on
            node.errors_to = self.errors_to
            node.feed = self.feed
            node.actor_nodes = self.actor_nodes
            self.actor_nodes[operator] = node
        return node


def _function_kind(call: Callable[..., Any]) -> str:
    if inspect.iscoroutinefunction(call):
        return "async"
    return "generator"


class Wiring:
    """A stream on this host: the nodes by step number, and where requests come in."""

    def __init__(self, host: Host, topology: Topology) -> None:
        self.host = host
        self.topology = topology
        self.name = topology.stream
        purity = host.purity.get(topology.stream)
        self.pure = purity is not None and purity.pure
        self.gated = host.journal is not None and not (purity is not None and purity.pure and not purity.reads)
        self.shape = _shape(topology)
        self.replies = topology.replies
        self.early = topology.early
        self.timeout_s = topology.timeout_s or host.limits.timeout_s
        self.in_flight_max = topology.in_flight or host.limits.requests_per_stream
        self.in_flight = 0
        self.failed: ActorflowError | None = None
        loops = loops_of(topology)
        gated = {edge: loop for loop in loops if loop.gate is not None for edge in loop.back}
        self.regions = Regions(
            len(topology.steps),
            [(edge.source, edge.target) for edge in topology.edges if edge not in gated],
            self._observers(loops),
            [
                progress.Gate(loop.gate, tuple((edge.source, edge.target) for edge in loop.back), loop.steps)
                for loop in loops
                if loop.gate is not None
            ],
        )
        self.loops = [
            RunningLoop(self, loop, slot, Gate(self, loop) if loop.gate is not None else None)
            for loop, slot in nested_slots(loops)
        ]
        self._loop_of = {edge: self.loops[loop.number] for loop in loops for edge in loop.back}
        self.watched = bool(self.regions.observers)
        entry = next(step for step in topology.steps if isinstance(step, Entry))
        self.entry_region = self.regions.into[entry.number]
        self.nodes: dict[int, Any] = {}
        for step in topology.steps:
            node = self._node(step)
            if node is not None:
                self.nodes[step.number] = node
        for operator in self.operators():
            operator.start()
        for number, node in self.nodes.items():
            self._connect(topology.steps[number], node)
        self.enter: Put = self.nodes[entry.number].hand_on
        # where a request's item can be processed at once: the one replica that comes first, in the simplest streams
        self.direct: Replica | None = None
        self.always: list[Folding | Gate] = []
        self._join_loops()
        self.keeps_item = any(loop.loop.synchronous for loop in self.loops)  # what rounds declare may depend on it
        self.sources = [self.nodes[step.number] for step in topology.steps if isinstance(step, Source)]
        first = getattr(self.enter, "__self__", None)
        simple = host.inline and not self.watched and not self.sources and self.replies == "one" and host.tracer is None
        if isinstance(first, Replica) and simple:
            self.direct = first
        self.reply: Put = self.nodes[topology.steps[-1].number].put
        if host.strict:
            self.reply = through_codec(self.reply)
        self.item_type = topology.request_type  # an item of exactly this type needs no check
        self.check = _checker(topology.request_type)

    def _observers(self, loops: Iterable[Loop]) -> list[int]:
        """Return the steps that must learn the end of their input, or of a round of it."""
        return [
            step.number
            for step in self.topology.steps
            if (isinstance(step, Gather) and (step.fold.name != "distinct" or not around(loops, step.number)))
            or (isinstance(step, Join) and step.how != "inner")
            or watches_rounds(step)
        ]

    def loops_around(self, number: int) -> tuple[RunningLoop, ...]:
        """Return the loops that a step is in, the outermost first."""
        return tuple(loop for loop in self.loops if number in loop.loop.steps)

    def operators(self) -> list[OperatorNode]:
        """Return the operator nodes, in the order of the stream."""
        return [node for node in self.nodes.values() if isinstance(node, OperatorNode)]

    def suspending(self) -> list[Replica]:
        """Return the replicas in which an activation, or an item for its key, may wait."""
        return [replica for node in self.operators() for replica in node.replicas if replica.suspends]

    def checked(self, item: Any) -> Any:
        """Return an item that fits the request type (converted from plain values where that is possible).

        Raises: InvalidItemError.
        """
        if self.check is None:
            return item
        try:
            return self.check(item)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            kind = getattr(self.topology.request_type, "__name__", self.topology.request_type)
            raise InvalidItemError(
                f"stream {self.name} takes {kind}, not {summary(item)}: {error}", stream=self.name, item=summary(item)
            ) from None

    # -- compiling

    def _node(self, step: Step) -> Node | None:
        """Return the node of a step, or None when the step is fused into a path."""
        if isinstance(step, Then):
            return OperatorNode(self, step, step.operator, step.args, dict(step.kwargs), key=self._key_of(step))
        if isinstance(step, Source):
            return OperatorNode(self, step, FunctionOperator, (_source(step.make),))
        if isinstance(step, Function):
            if not _is_fusible(step):
                return OperatorNode(self, step, FunctionOperator, (step.call,))
            return Pass(self, step) if self._many_follow(step) else None
        if isinstance(step, KeyBy):
            return Pass(self, step) if self._many_follow(step) else None
        if isinstance(step, Gather):
            fold = copy.copy(step.fold)
            fold.key = self._key_of(step)
            return Folding(self, step, fold)
        if isinstance(step, Join):
            return Joining(self, step)
        if isinstance(step, CallStream):
            return Calling(self, step)
        if isinstance(step, Route):
            return Router(self, step)
        if isinstance(step, Feedback):
            return self._feeding(step)
        if isinstance(step, (Replay, Delta)):
            gate = self._gate_at(step)
            return Replaying(self, step, gate) if isinstance(step, Replay) else Improving(self, step, gate)
        if isinstance(step, WithLoopState):
            return StatePairing(self, step, self._gate_at(step))
        if isinstance(step, Reply):
            return Replying(self, step)
        if isinstance(step, Discard):
            discard = Pass(self, step)
            discard.put = nowhere
            return discard
        return Pass(self, step)

    def _feeding(self, step: Feedback) -> Feeding:
        (edge,) = [edge for edge in self.topology.outputs_of(step.number) if edge.output == AGAIN]
        loop = self._loop_of[edge]
        if loop.gate is not None:
            return GatedFeeding(self, step, loop)
        return QueuedFeeding(self, step, loop) if self._round_without_mailbox(step, loop.loop) else Feeding(
            self, step, loop
        )  # fmt: skip

    def _round_without_mailbox(self, step: Feedback, loop: Loop) -> bool:
        """Return whether an item can come back to where it turns without waiting anywhere on the way."""
        steps = self.topology.steps
        gates = {each.loop.gate for each in self.loops}
        through = {each for each in loop.steps if each not in gates and not _has_mailbox(steps[each])}
        seen: set[int] = set()
        ahead = [step.number]
        while ahead:
            for edge in self.topology.outputs_of(ahead.pop()):
                if edge.target == step.number:
                    return True
                if edge.target in through and edge.target not in seen:
                    seen.add(edge.target)
                    ahead.append(edge.target)
        return False

    def _join_loops(self) -> None:
        """Tell each gate what begins with its rounds, and collect what begins with a request."""
        for loop in self.loops:
            if loop.gate is not None:
                parent = self.loops[loop.loop.parent].gate if loop.loop.parent is not None else None
                (self.always if parent is None else parent.always).append(loop.gate)
        for node in self.nodes.values():
            inside = [loop for loop in self.loops_around(node.number) if loop.gate is not None]
            gate = inside[-1].gate if inside else None
            if isinstance(node, Folding) and node.fold.always:
                (self.always if gate is None else gate.always).append(node)
            elif gate is not None and watches_rounds(self.topology.steps[node.number]):
                gate.watching.append(node)
            elif isinstance(node, Joining):
                self._join_of_rounds(node, inside)

    def _join_of_rounds(self, node: Joining, around: list[RunningLoop]) -> None:
        """Have each side of a join forgotten with a round of the innermost loop that it comes from."""
        for edge in self.topology.inputs_of(node.number):
            within = [loop.gate for loop in around if loop.loop.synchronous and edge.source in loop.loop.steps]
            if within and within[-1] is not None:
                within[-1].joins.append((node, edge.input == "right"))

    def _gate_at(self, step: Step) -> Gate:
        """Return the gate of the loop that a step closes, or else of the synchronous loop around it."""
        loops = self.loops_around(step.number)
        own = [loop.gate for loop in loops if loop.gate is not None and loop.loop.gate == step.number]
        gates = own or [loop.gate for loop in reversed(loops) if loop.gate is not None and loop.loop.synchronous]
        return gates[0]

    def _many_follow(self, step: Step) -> bool:
        return len(self.topology.outputs_of(step.number)) != 1

    def _connect(self, step: Step, node: Any) -> None:
        """Tell a node what follows it."""
        edges = self.topology.outputs_of(step.number)
        if isinstance(node, Router):
            for output in step.outputs if isinstance(step, Route) else ():
                node.outputs[output] = fan_out([self._path(edge) for edge in edges if edge.output == output])
            return
        ways = {output: [self._path(edge) for edge in edges if edge.output == output] for output in _OUTPUTS}
        node.hand_on = fan_out(ways[""])
        if ways[ERRORS]:
            node.errors_to = fan_out(ways[ERRORS])
        if isinstance(node, OperatorNode) and ways[FEEDBACK]:
            node.feed = fan_out(ways[FEEDBACK])
        if isinstance(node, Turn):
            node.back = fan_out(ways[AGAIN])
            node.ended = fan_out(ways[END]) if ways[END] else None
        if isinstance(node, QueuedFeeding):
            node.close(node.back)
        if isinstance(node, Pass) and isinstance(step, Function):
            fused = Fused(self, [step], node.hand_on)
            node.put = fused.put

    def _path(self, first: Edge) -> Put:
        """Return the `put` at the end of an edge, with the functions on the way fused into one pass."""
        functions: list[Function] = []
        edge, side = first, first.input
        step = self.topology.steps[edge.target]
        while step.number not in self.nodes:
            if isinstance(step, Function):
                functions.append(step)
            (edge,) = self.topology.outputs_of(step.number)
            side = edge.input
            step = self.topology.steps[edge.target]
        node = self.nodes[step.number]
        if isinstance(node, Pass) and isinstance(step, Function):
            put: Put = _late(node)
        else:
            other = (isinstance(node, Joining) and side == "right") or (isinstance(node, Turn) and side == BACK)
            put = node.receive_other if other else node.put
        if self.host.strict and isinstance(node, (OperatorNode, Folding, Calling, Joining, Replying, Turn)):
            put = through_codec(put)
        put = self._crossing(put, first.source, step.number)
        return Fused(self, functions, put).put if functions else put

    def _crossing(self, put: Put, source: int, target: int) -> Put:
        """Return a `put` that tells the rounds of loops that an edge leads into, and forgets those that it leaves."""
        if not self.loops:
            return put
        before, after = self.loops_around(source), self.loops_around(target)
        both = [loop for loop in after if loop in before]
        entered = [loop for loop in after if loop not in before]
        had, keep, add = (sum(loop.slot is not None for loop in loops) for loops in (before, both, entered))
        return crossing(put, keep=keep, add=add) if add or had != keep else put

    def _key_of(self, step: Step) -> Callable[[Any], Any] | None:
        """Return the key function of a keyed step; None when it has no key, or when the item is the key."""
        keyed = self.topology.key_before(step.number)
        if keyed is None:
            return None
        return _itself if keyed.key is None and isinstance(step, Then) else keyed.key


_OUTPUTS = ("", ERRORS, FEEDBACK, AGAIN, END)


def _shape(topology: Topology) -> str:
    """Return what identifies the steps of a stream, for requests that go on with it after a restart."""
    steps = [f"{step.kind} {step.name}" for step in topology.steps]
    edges = [f"{edge.source}{edge.output}>{edge.target}{edge.input}" for edge in topology.edges]
    return f"{zlib.crc32(chr(10).join((*steps, *edges)).encode()):08x}"


def _has_mailbox(step: Step) -> bool:
    return isinstance(step, Then) or (isinstance(step, Function) and not _is_fusible(step))


def _late(node: Node) -> Put:
    """Return a `put` that reads the node's own when it is called: it is replaced once what follows is known."""
    return lambda request, context, items: node.put(request, context, items)  # noqa: PLW0108


def _itself(item: Any) -> Any:
    return item


def _is_fusible(step: Function) -> bool:
    """Return whether a function is applied in passing; generators are pulled, coroutines awaited, both by a replica."""
    if step.shape == "flat_map" and inspect.isgeneratorfunction(step.call):
        return False
    return not inspect.iscoroutinefunction(step.call)


def _source(make: Callable[..., Iterable[Any]]) -> Callable[[Any], Iterator[Any]]:
    takes_request = bool(inspect.signature(make).parameters)

    def items(request: Any) -> Iterator[Any]:
        yield from make(request) if takes_request else make()

    return items


def _checker(kind: Any) -> Callable[[Any], Any] | None:
    """Return what converts an item to a declared type, or None when anything goes."""
    if kind is Any or kind is object or kind is None:
        return None

    instances = isinstance(kind, type) and not typing.is_typeddict(kind)  # of a record there are none, only dicts

    def check(item: Any) -> Any:
        if type(item) is kind:
            return item
        if instances and isinstance(item, kind) and not (kind in {int, float} and type(item) is bool):
            return item
        return msgspec.convert(item, kind)

    return check
