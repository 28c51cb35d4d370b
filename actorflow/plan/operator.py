"""Operators: the user's code, as a class."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, overload
from uuid import UUID

from actorflow.address import Address
from actorflow.errors import ActorflowError

if TYPE_CHECKING:
    from actorflow.plan.stream import Stream

OnError: TypeAlias = Literal["fail", "set_aside", "edge"]
Strategy: TypeAlias = Literal["one_for_one", "rest_for_one", "one_for_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """When and how a supervisor restarts replicas.

    strategy: which siblings restart too: none, those after it in the stream, or all.
    restarts, within_s: more restarts than this within this time escalate to the host, which fails the stream.
    backoff_s, backoff_max_s: the pause before a restart doubles from the first to the second.
    failures, failures_within_s: more failed activations than this within this time restart the replica (None: never).
    """

    strategy: Strategy = "one_for_one"
    restarts: int = 5
    within_s: float = 60.0
    backoff_s: float = 0.1
    backoff_max_s: float = 10.0
    failures: int | None = None
    failures_within_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ItemError:
    """What `process_batch` puts in place of a result whose item failed: that item fails, the others stand."""

    error: Exception


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """What travels along an error edge: the item and what its activation raised."""

    item: Any
    error: ActorflowError


@dataclass(frozen=True, slots=True)
class Retry:
    """What `on_reply` returns to have the operator process an item once more."""

    item: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `on_reply` sees on its way back: a reply (`error` is None) or an error."""

    value: Any = None
    error: ActorflowError | None = None

    @property
    def ok(self) -> bool:
        """Return whether this is a reply."""
        return self.error is None

    def result(self) -> Any:
        """Return the reply, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value


class Pending(Protocol):
    """A deferred answer: whoever holds it answers once, from any activation, with `reply` or `fail`."""

    def reply(self, value: Any) -> None:
        """Answer. Takes effect with the activation that calls it."""

    def fail(self, error: Exception) -> None:
        """Answer with an error. Takes effect with the activation that calls it."""


class RequestInfo(Protocol):
    """What an operator can see of the request it works for."""

    @property
    def id(self) -> str:
        """Return the request's id, unique over hosts and restarts."""

    @property
    def deadline_s(self) -> float:
        """Return the deadline in seconds of the event loop's clock."""

    @property
    def item(self) -> Any:
        """Return what the request was begun with, in streams with synchronous loops; None where many items are sent."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Return what the caller sent along with the item."""

    @property
    def cancelled(self) -> bool:
        """Return whether the request has ended, so that further work on it is for nothing."""


class Working(Protocol):
    """The activation behind an operator while it works; the runtime provides it."""

    request: Any
    out: list[Any]
    back: list[Any]
    effects: list[tuple[Any, Any]]
    worker: Any

    def reply(self, value: Any) -> None: ...
    def ask(self, address: Address, item: Any) -> Coroutine[Any, Any, Any]: ...
    async def call(self, stream: str, item: Any) -> Any: ...
    def send(self, stream: str, item: Any, after_s: float | None = ...) -> str | None: ...
    def cancel_send(self, ticket: str) -> None: ...
    def gave(self) -> tuple[float, int]: ...
    def random(self) -> Random: ...
    def spawn(
        self, operator: type[Operator], args: tuple[Any, ...], kwargs: dict[str, Any], *, detached: bool
    ) -> Address: ...
    def stop(self, address: Address) -> None: ...
    def address(self) -> Address: ...
    def defer(self) -> Pending: ...
    def after(self, delay_s: float, item: Any) -> None: ...
    def feedback(self, item: Any) -> None: ...
    def vote(self, value: Any) -> None: ...
    def rounds(self) -> tuple[int, ...]: ...
    def loop_state(self) -> Any: ...
    def scratch(self) -> dict[Any, Any]: ...
    def handle(self, access: Any) -> Any: ...
    def abort(self) -> None: ...


class Operator:
    """One step of a stream, or an actor of its own: subclass it and write `process`.

    `process(item)` may be a plain function, a coroutine, a generator or an async generator. What it returns goes on to
    the next step, unless it is None; what it yields goes on one by one. Each call is an *activation*: a transaction
    whose emits, replies, tells and sends take effect together when it ends, or not at all when it raises.

    A replica handles one item at a time (an async one up to `concurrency` items, serial per key). Attributes of the
    instance are a cache that all requests share: they are not rolled back when an activation fails. What belongs to
    one request goes into a fold, or into an actor that this operator spawns for it.

    A generator hands on what it yields batch by batch and pauses while its request has too much under way; each batch
    is a commit, and a bare `yield` lets out what it has told so far.

    Instead of `process` a subclass may write `process_batch(items)`: one activation for a list of items, returning a
    list of results (with an `ItemError` in place of a failed one), or None. `start` and `stop`, plain or async, run
    before the first and after the last item. `on_reply(outcome, item)` makes the replies (and errors) that come of an
    item pass through this operator on their way back: return the reply to pass on, raise, or return `Retry(item)`.

    Class attributes: `on_error` (what a failed item does: "fail" its request, "set_aside" as a dead letter, or leave by
    the error "edge"), `concurrency`, `restart` (see `Restart`), `escalate` (exception classes that restart the replica
    instead of failing an item only).

    In a loop, `self.feedback(item)` sends an item round again (see `then(…, feedback=…)`), and `self.round` tells how
    often the item at hand has been round. An operator that defines `on_round_end(round)`, plain or async, makes its
    loop go in synchronous rounds: it is called at each replica when all of a round is done, may emit, feed back and
    vote, and belongs to the round that ends. `tells_round = True` says that `self.round` is read where the code of the
    class does not show it.

    `in_order = True` makes an async `process_batch` with `concurrency` work on one batch of a request at a time: others
    of other requests meanwhile.
    """

    __slots__ = ("__dict__", "__weakref__", "_activation")

    on_error: ClassVar[OnError] = "fail"
    concurrency: ClassVar[int] = 1
    restart: ClassVar[Restart | None] = None
    escalate: ClassVar[tuple[type[Exception], ...]] = ()
    tells_round: ClassVar[bool] = False
    in_order: ClassVar[bool] = False

    _activation: Working

    if TYPE_CHECKING:
        process: Callable[..., Any]

    @property
    def request(self) -> RequestInfo:
        """Return the request that the current activation works for."""
        info: RequestInfo = self._activation.request
        return info

    def emit(self, item: Any) -> None:
        """Hand an item to the next step when the activation ends."""
        self._activation.out.append(item)

    def reply(self, value: Any) -> None:
        """Answer the request (or the ask) directly when the activation ends, past the steps that follow."""
        self._activation.reply(value)

    def tell(self, address: Address, item: Any) -> None:
        """Send an item to an actor when the activation ends. FIFO per sender, receiver and request.

        An `ask` goes at once: what this activation tells, an answer that it awaits cannot depend on.
        """
        if address.__class__ is not Address:
            raise TypeError(f"tell(address, item): {address!r} is not an address; spawn() returns one")
        self._activation.effects.append((address, item))

    def ask(self, address: Address, item: Any) -> Coroutine[Any, Any, Any]:
        """Send an item to an actor at once and await its answer: what its `process` returns or replies.

        Raises: ActorGoneError; what the actor raised; CallCycleError when the actor waits for this activation.
        """
        if self._activation.worker is None:
            raise TypeError(
                "ask() needs an async process, since a plain one cannot wait: write async def, or use tell()"
            )
        return self._activation.ask(address, item)

    def call(self, stream: Stream[Any, Any] | str, item: Any) -> Coroutine[Any, Any, Any]:
        """Make a child request to a stream and await its reply; deadline and cancellation are inherited.

        A stream with `replies="many"` answers with the list of its replies.

        Raises: what the child request ended with; CallCycleError when it would wait for this activation.
        """
        if self._activation.worker is None:
            raise TypeError(
                "call() needs an async process, since a plain one cannot wait: write async def, or use send()"
            )
        return self._activation.call(stream if isinstance(stream, str) else stream.name, item)

    @overload
    def send(self, stream: Stream[Any, Any] | str, item: Any) -> None: ...
    @overload
    def send(self, stream: Stream[Any, Any] | str, item: Any, *, after_s: float) -> str: ...
    def send(self, stream: Stream[Any, Any] | str, item: Any, *, after_s: float | None = None) -> str | None:
        """Start a request of its own when the activation ends, and do not wait for it.

        With `after_s` it starts so many seconds later, a restart in between included where there is a store, and a
        ticket is returned: a string, by which `cancel_send` calls it off.

        Raises: InvalidItemError; LimitError when too many wait for their time.
        """
        return self._activation.send(stream if isinstance(stream, str) else stream.name, item, after_s)

    def cancel_send(self, ticket: str) -> None:
        """Call off a send with a delay, when the activation ends; one that has begun, or was called off, stays so."""
        self._activation.cancel_send(ticket)

    # -- what is the same when an async activation is run again

    @property
    def now_s(self) -> float:
        """Return the wall clock in seconds since 1970, as it was when this activation first asked."""
        return self._activation.gave()[0]

    @property
    def random(self) -> Random:
        """Return a source of chance that gives this activation the same when it is run again."""
        return self._activation.random()

    def uuid(self) -> UUID:
        """Return a random UUID that is the same when this activation is run again."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def spawn(self, operator: type[Operator], *args: Any, **kwargs: Any) -> Address:
        """Create an actor and return its address. It ends with the request, or with `stop_actor`.

        What the actor emits enters the stream where this operator's items do.

        Raises: SpawnLimitError.
        """
        return self._activation.spawn(operator, args, kwargs, detached=False)

    def spawn_detached(self, operator: type[Operator], *args: Any, **kwargs: Any) -> Address:
        """Create an actor that outlives the request: it ends with the host, or with `stop_actor`."""
        return self._activation.spawn(operator, args, kwargs, detached=True)

    def stop_actor(self, address: Address | None = None) -> None:
        """End an actor (by default this one) when the activation ends; what it has received before is processed."""
        self._activation.stop(self._activation.address() if address is None else address)

    @property
    def address(self) -> Address:
        """Return this actor's own address. An operator of a stream has none: use `call` or `send` to reach it."""
        return self._activation.address()

    def defer(self) -> Pending:
        """Answer this request (or ask) later: whoever holds the returned value calls its `reply` or `fail` once."""
        return self._activation.defer()

    def after(self, delay_s: float, item: Any) -> None:
        """Have this operator process `item` after a delay, within the same request."""
        self._activation.after(delay_s, item)

    # -- in a loop

    def feedback(self, item: Any) -> None:
        """Send an item round the loop again when the activation ends. Declared by `then(…, feedback=…)`."""
        self._activation.feedback(item)

    @property
    def round(self) -> int:
        """Return how often the item at hand has been round the innermost loop: 0 on its first way through.

        Raises: TypeError outside loops.
        """
        return self._activation.rounds()[-1]

    @property
    def rounds(self) -> tuple[int, ...]:
        """Return the rounds of all loops around this operator, the outermost first.

        Raises: TypeError outside loops.
        """
        return self._activation.rounds()

    def vote(self, value: Any) -> None:
        """Give a vote, or a partial value, to the round: what all gave is folded at its end (see `Rounds`).

        Raises: TypeError when no synchronous loop with a `fold` is around this operator.
        """
        self._activation.vote(value)

    @property
    def loop_state(self) -> Any:
        """Return the state of the synchronous loop around this operator, the same for all replicas during a round.

        Raises: TypeError when there is no such loop.
        """
        return self._activation.loop_state()

    @property
    def scratch(self) -> dict[Any, Any]:
        """Return this replica's own notes on the current request: empty at first, gone when the request has ended.

        Like attributes they are a cache, and not rolled back when an activation fails.
        """
        return self._activation.scratch()
