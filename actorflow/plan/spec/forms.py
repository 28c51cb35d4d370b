"""The forms of a spec: what may be written where. The published schema is made of these classes.

A step is a mapping with one verb, which is the name of the method of the builder, and its options. What is left out is
as in the builder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from actorflow.limits import Limits
from actorflow.plan.cells import ENTRIES_MAX
from actorflow.plan.operator import OnError, Restart
from actorflow.plan.topology import Gathering, Replies


class _Form(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What all forms have in common: what they do not know is a fault."""


class FunctionForm(_Form, kw_only=True):
    """A function that is not only a reference: with `options` for its language, or what reads a `field`."""

    function: Annotated[str | None, Meta(description="A reference: python:module:name or wasm:file#export.")] = None
    options: Annotated[dict[str, Any], Meta(description="Options of its language, such as limits.")] = {}
    field: Annotated[str | None, Meta(description="Reads this field of a mapping, or attribute of an object.")] = None


class ValueForm(_Form, kw_only=True):
    """A value that has to be told from a function: `value` is taken as it stands."""

    value: Annotated[Any, Meta(description="Taken as it stands.")] = UNSET
    function: Annotated[str | None, Meta(description="A reference: it makes the value.")] = None
    options: Annotated[dict[str, Any], Meta(description="Options of the language of the function.")] = {}


class Point(_Form, kw_only=True):
    """A point of the stream, where `step.output` would mean another."""

    step: str
    output: str = ""


class AccessForm(_Form, kw_only=True):
    """How an operator in another language touches a cell."""

    access: Annotated[
        Literal["owned", "exclusive", "merged", "snapshot"], Meta(description="What it declares to do with the cell.")
    ]
    cell: Annotated[str | None, Meta(description="The cell; by default the one of the same name.")] = None
    read_only: Annotated[bool, Meta(description="It changes nothing.")] = False
    max_age_s: Annotated[float | None, Meta(description="Of a snapshot: how old it may be.")] = None


Function: TypeAlias = str | FunctionForm
Value: TypeAlias = bool | int | float | str | list[Any] | ValueForm | None
Type: TypeAlias = str | dict[str, Any]
Nothing: TypeAlias = bool | None

_TYPE = "int, str, float, bool, bytes, any, none, list[int], dict[str, float], tuple[int, ...], int | none, "
_TYPE += "python:module:Class, or a record such as {sku: str, note?: str}."
_FUNCTION = "python:module:name or wasm:file#export."
RequestType: TypeAlias = Annotated[Type, Meta(description=f"What a request carries: {_TYPE}")]
ReplyType: TypeAlias = Annotated[Type, Meta(description=f"What a reply is: {_TYPE}")]
Plainly: TypeAlias = Annotated[Nothing, Meta(description="Takes no value: leave it empty, or write true.")]


class RoundsForm(_Form, kw_only=True):
    """How a loop goes round in synchronous rounds: nothing begins a round before all of the last one is done."""

    until: Annotated[Function | None, Meta(description="Of the state: the loop ends when it is true.")] = None
    rounds_max: Annotated[int | Function | None, Meta(description="The most rounds, or a function of the request.")] = (
        None
    )
    fold: Annotated[Function | None, Meta(description="Folds the votes of a round: of a value and a vote.")] = None
    initial: Annotated[Value | UnsetType, Meta(description="What the votes are folded from.")] = UNSET
    state: Annotated[Value | UnsetType, Meta(description="The state before the first round.")] = UNSET
    update: Annotated[Function | None, Meta(description="The new state, of the old one and of what was folded.")] = None
    vote: Annotated[Function | None, Meta(description="Makes a vote of each item that comes back.")] = None


# -- steps


class _Step(_Form, kw_only=True):
    name: Annotated[str | None, Meta(description="Its name; by default that of its function, or of its verb.")] = None


class _Following(_Step, kw_only=True):
    after: Annotated[
        str | Point | list[str | Point] | None,
        Meta(
            description="The step, or steps, that it follows, by name; name.output where a step has several: "
            "the outputs of a split or a route, the errors of an operator, again of a loop. "
            "By default the step before it."
        ),
    ] = None


class _Foreign(_Following, kw_only=True):
    threads: Annotated[int | None, Meta(description="Short for options: {threads: …}.")] = None
    options: Annotated[dict[str, Any], Meta(description="Options of the language of its function.")] = {}


class MapStep(_Foreign, kw_only=True):
    """Replace each item by what a function makes of it."""

    map: Annotated[Function, Meta(description=_FUNCTION)]


class FilterStep(_Foreign, kw_only=True):
    """Keep the items for which a function is true."""

    filter: Annotated[Function, Meta(description=_FUNCTION)]


class FlatMapStep(_Foreign, kw_only=True):
    """Replace each item by all that a function makes of it."""

    flat_map: Annotated[Function, Meta(description=_FUNCTION)]


class KeyByStep(_Following, kw_only=True):
    """Give what follows a key."""

    key_by: Annotated[
        Function | Nothing, Meta(description="A field, or a function; empty where the item is its own key.")
    ]
    space: Annotated[str | None, Meta(description="The key space: that of the cells which are meant.")] = None
    shards: Annotated[int, Meta(description="In how many shards the space is cut.")] = 256


class ThenStep(_Foreign, kw_only=True):
    """Hand each item to an operator."""

    then: Annotated[Function, Meta(description=f"A class of Python, or a function of another language: {_FUNCTION}")]
    args: Annotated[list[Any], Meta(description="Arguments for its constructor.")] = []
    kwargs: Annotated[dict[str, Any], Meta(description="Arguments for its constructor, by name.")] = {}
    replicas: Annotated[int, Meta(description="How many there are, of one without a key.")] = 1
    concurrency: Annotated[int | None, Meta(description="How many items an async one has in work at once.")] = None
    on_error: Annotated[OnError | None, Meta(description="What an item does that fails.")] = None
    restart: Annotated[Restart | None, Meta(description="When and how its replicas are restarted.")] = None
    mailbox_envelopes: Annotated[int | None, Meta(description="How many envelopes its mailbox holds.")] = None
    priority: Annotated[Function | None, Meta(description="The item for which it is smallest goes first.")] = None
    feedback: Annotated[
        bool | str, Meta(description="Where items go that it feeds back: true for itself, or the name of a step.")
    ] = False
    cells: Annotated[
        dict[str, Literal["owned", "exclusive", "merged", "snapshot"] | AccessForm],
        Meta(description="Cells that an operator in another language touches, by the name it has for them."),
    ] = {}


class CallStep(_Following, kw_only=True):
    """Make a child request of each item and go on with its replies."""

    call: Annotated[str, Meta(description="The name of a stream.")]
    concurrency: Annotated[int, Meta(description="How many are open at once per request.")] = 64
    ordered: Annotated[bool, Meta(description="Replies keep the order of the items.")] = True


class CountStep(_Following, kw_only=True):
    """Count the items of a request, per key where keyed."""

    count: Plainly


class FoldStep(_Following, kw_only=True):
    """Fold the items of a request, per key where keyed, and emit at the end."""

    fold: Annotated[Function, Meta(description=f"Of the value so far and an item: {_FUNCTION}")]
    initial: Annotated[Value, Meta(description="What it begins with: a value, or a function that makes one.")]


class ReduceStep(_Following, kw_only=True):
    """Combine the items of a request two by two, per key where keyed."""

    reduce: Annotated[Function, Meta(description=_FUNCTION)]


class SortForm(_Form, kw_only=True):
    """In which order."""

    by: Annotated[Function | None, Meta(description="What is compared; by default the item.")] = None
    reverse: Annotated[bool, Meta(description="The largest first.")] = False


class SortStep(_Following, kw_only=True):
    """Emit the items of a request in order, at the end."""

    sort: Annotated[Nothing | SortForm, Meta(description="Empty for the order of the items themselves.")]


class TopForm(_Form, kw_only=True):
    """How many, and in which order."""

    count: Annotated[int, Meta(description="How many.")]
    by: Annotated[Function | None, Meta(description="What is compared; by default the item.")] = None
    reverse: Annotated[bool, Meta(description="The largest first.")] = True


class TopStep(_Following, kw_only=True):
    """Emit the first items of a request in order, at the end: by default the largest."""

    top: Annotated[int | TopForm, Meta(description="How many.")]


class DistinctStep(_Following, kw_only=True):
    """Let each item, or the first of each key, pass once."""

    distinct: Plainly


class CollectStep(_Following, kw_only=True):
    """Emit one list of all items, per key where keyed, at the end."""

    collect: Plainly


class BatchStep(_Following, kw_only=True):
    """Emit lists of so many items; the last may be shorter."""

    batch: Annotated[int, Meta(description="How many items a list has.")]


class JoinStep(_Step, kw_only=True):
    """Emit a pair for each two items of a request with the same key."""

    join: Annotated[Function, Meta(description="The key of both sides: a field, or a function.")]
    other_key: Annotated[Function | None, Meta(description="The key of the right side, where it differs.")] = None
    left: Annotated[str | Point | None, Meta(description="The left side; by default the step before.")] = None
    right: Annotated[str | Point, Meta(description="The right side.")]
    how: Annotated[Gathering, Meta(description="Whose items without a partner are emitted too.")] = "inner"


class MergeStep(_Following, kw_only=True):
    """Bring several points together: those after which it comes."""

    merge: Plainly


class SplitStep(_Following, kw_only=True):
    """Send items on by `true` or `false`, as a function says."""

    split: Annotated[Function, Meta(description=_FUNCTION)]


class RouteStep(_Following, kw_only=True):
    """Send each item on by the output that a function names."""

    route: Annotated[Function, Meta(description=_FUNCTION)]
    outputs: Annotated[list[str], Meta(description="The names that it may give.")]


class BroadcastStep(_Form, kw_only=True):
    """Make so many points that each receive every item: broadcast, broadcast_2, …"""

    broadcast: Annotated[int, Meta(description="How many.")]
    after: Annotated[str | Point | None, Meta(description="By default the step before it.")] = None


class SourceStep(_Step, kw_only=True):
    """A further source: each request begins it."""

    source: Annotated[Function, Meta(description=f"Of the request, gives items: {_FUNCTION}")]


class DiscardStep(_Form, kw_only=True):
    """End here: what arrives is no reply."""

    discard: Plainly
    after: Annotated[str | Point | None, Meta(description="By default the step before it.")] = None


class FeedbackStep(_Following, kw_only=True):
    """Send items back to an earlier step; the others go on."""

    feedback: Annotated[Function | Nothing, Meta(description="Which go back; empty: all.")]
    to: Annotated[str | None, Meta(description="The step to which they go; by default the one that this follows.")] = (
        None
    )
    trips_max: Annotated[int | None, Meta(description="An item that goes back more often fails.")] = None
    rounds: Annotated[RoundsForm | None, Meta(description="They go round together; {} asks for nothing else.")] = None


class ReplayStep(_Following, kw_only=True):
    """Let the same items go through what follows, up to `back:`, in every round; what comes back are votes."""

    replay: Plainly
    rounds: Annotated[RoundsForm, Meta(description="Its rounds: fold, and until or rounds_max.")]


class DeltaStep(_Following, kw_only=True):
    """Improve the values of keys by what follows, up to `back:`, until none changes any more."""

    delta: Annotated[Function | Nothing, Meta(description="The better of two values; by default the smaller.")]
    priority: Annotated[Function | None, Meta(description="Pairs for which it is smallest go first.")] = None
    ahead: Annotated[int, Meta(description="With a priority: up to so many at a time.")] = 64
    rounds: Annotated[RoundsForm | None, Meta(description="Changes go round together; {} asks for nothing else.")] = (
        None
    )


class BackStep(_Form, kw_only=True):
    """The end of the body of a replay or delta: what comes here goes back to it. What follows comes after the loop."""

    back: Annotated[str, Meta(description="The name of the replay or delta.")]
    after: Annotated[str | Point | None, Meta(description="By default the step before it.")] = None


class IntoStep(_Form, kw_only=True):
    """Hand the items also to an earlier step that takes several inputs. What follows comes after that step."""

    into: Annotated[str, Meta(description="The name of the step.")]
    after: Annotated[str | Point | None, Meta(description="By default the step before it.")] = None


class LoopEndStep(_Form, kw_only=True):
    """What the loop before it amounted to: how many rounds, and the last state."""

    loop_end: Plainly
    after: Annotated[str | Point | None, Meta(description="The loop; by default the step before it.")] = None


class LoopStateStep(_Following, kw_only=True):
    """Pair each item with the state of the loop around it."""

    with_loop_state: Plainly


AnyStep: TypeAlias = _Form
VERBS: Final[Mapping[str, type[_Form]]] = {
    "map": MapStep, "filter": FilterStep, "flat_map": FlatMapStep, "key_by": KeyByStep, "then": ThenStep,
    "call": CallStep, "count": CountStep, "fold": FoldStep, "reduce": ReduceStep, "sort": SortStep, "top": TopStep,
    "distinct": DistinctStep, "collect": CollectStep, "batch": BatchStep, "join": JoinStep, "merge": MergeStep,
    "split": SplitStep, "route": RouteStep, "broadcast": BroadcastStep, "source": SourceStep, "discard": DiscardStep,
    "feedback": FeedbackStep, "replay": ReplayStep, "delta": DeltaStep, "back": BackStep, "into": IntoStep,
    "loop_end": LoopEndStep, "with_loop_state": LoopStateStep,
}  # fmt: skip


# -- the app


class CellForm(_Form, kw_only=True):
    """A piece of shared state."""

    kind: Annotated[
        Literal["table", "value", "counter", "max", "min", "set", "register", "map", "log"],
        Meta(description="What it is, and so how it may be touched."),
    ]
    key: Annotated[str | None, Meta(description="Its key space: one entry per key.")] = None
    value: Annotated[Type | UnsetType, Meta(description=f"What its values are: {_TYPE}")] = UNSET
    key_type: Annotated[Type, Meta(description="What its keys are.")] = "any"
    shards: Annotated[int, Meta(description="In how many shards the key space is cut.")] = 256
    ttl_s: Annotated[float | None, Meta(description="Entries vanish so long after they were last written.")] = None
    entries_max: Annotated[int, Meta(description="More entries are refused.")] = ENTRIES_MAX
    version: Annotated[int, Meta(description="Of the schema of its values in a store.")] = 1
    migrate: Annotated[Function | None, Meta(description="Brings a stored value of an older version up to date.")] = (
        None
    )
    grow_only: Annotated[bool, Meta(description="Of a set: nothing is removed.")] = False


class StreamForm(_Form, kw_only=True):
    """A stream: what it takes, how it answers, and its steps."""

    request: RequestType = "any"
    reply: ReplyType = "any"
    replies: Annotated[Replies, Meta(description="How many replies a request has.")] = "one"
    early: Annotated[bool, Meta(description="The one reply is delivered at once.")] = False
    timeout_s: Annotated[float | None, Meta(description="The deadline of a request that names none.")] = None
    in_flight: Annotated[int | None, Meta(description="The most requests at once.")] = None
    on_error: Annotated[OnError, Meta(description="What an item does that fails.")] = "fail"
    restart: Annotated[Restart | None, Meta(description="When and how replicas are restarted.")] = None
    steps: Annotated[list[Any], Meta(description="One after the other; what leads nowhere else is a reply.")] = []


class ScheduleForm(_Form, kw_only=True):
    """A request that begins by the clock."""

    stream: Annotated[str, Meta(description="The stream that takes it.")]
    item: Annotated[Any, Meta(description="What the request carries.")] = None
    every_s: Annotated[float | None, Meta(description="So many seconds after the last one.")] = None
    cron: Annotated[str | None, Meta(description="A cron expression, in UTC.")] = None


class AppForm(_Form, kw_only=True):
    """An app of actorflow: its streams, the state they share, and the limits they run under."""

    app: Annotated[str, Meta(description="Its name.")]
    limits: Annotated[Limits | None, Meta(description="What a host allows.")] = None
    cells: Annotated[dict[str, Any], Meta(description="The state that streams share, by name.")] = {}
    streams: Annotated[dict[str, Any], Meta(description="Its streams, by name.")] = {}
    schedules: Annotated[dict[str, Any], Meta(description="Requests that begin by the clock, by name.")] = {}
