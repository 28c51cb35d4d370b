"""A request at its home: the header that all its envelopes share, its counts, and how it ends.

Creating one is on the path of every ask, so what most requests never have (folds, actors, children, streamed replies)
lives in `Details`, made when first needed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from actorflow.core.epoch import Leaving
from actorflow.core.progress import COMPLETE, Progress
from actorflow.envelope import Frame
from actorflow.errors import (
    ActorflowError,
    DeadlineExceededError,
    ItemBudgetError,
    NoReplyError,
    RequestCancelledError,
    TooManyRepliesError,
)
from actorflow.report import LoopReport, RequestReport

if TYPE_CHECKING:
    from actorflow.runtime.activation import Activation, Again
    from actorflow.runtime.host import Host
    from actorflow.runtime.replica import Replica
    from actorflow.runtime.waiting import Look
    from actorflow.runtime.wiring import Wiring

RUNNING, REPLIED, FAILED = 0, 1, 2
QUICK, CLEAN, MIXED = 0, 1, 2

UNSET: Any = object()
_NO_ATTRIBUTES: Mapping[str, Any] = {}
_NOTHING: dict[Any, Any] = {}


class Details:
    """What only some requests have.

    attributes: what the caller sent along.   item: what it sent, where loops may ask for it.
    idle_since_s: set for streamed items or replies, whose deadline is idle.
    folds: state by node number.   frames: return frames not yet passed.   activations: those suspended in `await`.
    children: open child requests.   actors: live actors by number.   timers: handles of timers not yet due.
    parked: replicas that hold back a generator of this request, with the items that wait behind it.
    told: async actors of others that have been sent items.   feeds: inputs that wait for room.
    releases: callbacks for what ends with the request.   scratch: notes of operators, by replica.
    trips: by loop, how often an item has been round at the most, where that is counted.
    key, digest: given by the caller, who may ask again with it, and a checksum of what was asked.   watchers: called
    at the end, for those who did.   sent: nobody waits for an answer.   asked: of a child, stream and item.
    id: of a request that goes on after a restart, the one it began with.
    """

    __slots__ = (
        "activations",
        "actors",
        "asked",
        "attributes",
        "children",
        "digest",
        "feeds",
        "folds",
        "frames",
        "id",
        "idle_since_s",
        "input",
        "item",
        "key",
        "open_children",
        "parked",
        "releases",
        "scratch",
        "sent",
        "timers",
        "told",
        "trips",
        "watchers",
    )  # fmt: skip

    def __init__(self) -> None:
        self.attributes: Mapping[str, Any] = _NO_ATTRIBUTES
        self.idle_since_s: float | None = None
        self.item: Any = None
        self.input: Hold | None = None  # of a request whose items are still coming
        self.open_children = 0  # in the whole tree below a root
        self.key: str | None = None
        self.digest: int | None = None
        self.id: str | None = None
        self.asked: tuple[str, Any] | None = None
        self.sent = False
        self.watchers: dict[Callable[[Request], None], None] = _NOTHING
        # all share one empty table until they have something in them (see `own`): a table each would be half a kilobyte
        self.folds: dict[int, Any] = _NOTHING
        self.frames: dict[Frame, None] = _NOTHING
        self.activations: dict[Activation, None] = _NOTHING
        self.children: dict[Request, None] = _NOTHING
        self.actors: dict[int, Replica] = _NOTHING
        self.timers: dict[Timer, int] = _NOTHING
        self.parked: dict[Replica, int] = _NOTHING
        self.feeds: dict[asyncio.Future[None], None] = _NOTHING
        self.releases: dict[Callable[[], None], None] = _NOTHING
        self.told: dict[Replica, None] = _NOTHING
        self.scratch: dict[Replica, dict[Any, Any]] = _NOTHING
        self.trips: dict[int, int] = _NOTHING

    def own(self, name: str) -> dict[Any, Any]:
        """Return a table to put something in."""
        table: dict[Any, Any] = getattr(self, name)
        if table is _NOTHING:
            table = {}
            setattr(self, name, table)
        return table

    def wake_producers(self, request: Request) -> None:
        """Let parked generators and waiting inputs go on."""
        while self.parked:
            self.parked.popitem()[0].unpark(request)
        while self.feeds:
            waiting = next(iter(self.feeds))
            del self.feeds[waiting]
            if not waiting.done():
                waiting.set_result(None)


class Request(msgspec.Struct, eq=False):
    """One run of a stream: the unit of progress, deadline, cancellation and answer.

    A Struct, since making one with all its defaults costs half of what a class with slots does.

    state: RUNNING until it has ended, then REPLIED or FAILED; it never changes again.
    counts: items and holds that are not finished, per region (see `core.progress`).
    bulk: its envelopes take the bulk lane of mailboxes.   committed: an activation of it has committed.
    answered: how it ended is decided.   held: whoever waits is told when what it follows from is durable.
    registered: it can be found, cancelled and timed out.
    """

    host: Host
    stream: Wiring
    timeout_s: float
    counts: list[int]
    progress: Progress | None = None
    parent: Request | None = None
    top: Request | None = None
    caller: Activation | Again | None = None
    depth: int = 0
    number: int = 0
    state: int = RUNNING
    value: Any = UNSET
    error: ActorflowError | None = None
    bulk: int = QUICK
    committed: bool = False
    answered: bool = False
    held: bool = False
    registered: bool = False
    future: asyncio.Future[None] | None = None
    on_end: Callable[[Request], None] | None = None
    replies: ReplyQueue | None = None
    details: Details | None = None
    deadline_given_s: float = 0.0

    # -- what an operator may see

    @property
    def id(self) -> str:
        """Return the id: the host's incarnation and the number of the request on it."""
        if self.details is not None and self.details.id is not None:
            return self.details.id
        if not self.number:
            self.number = self.host.next_number()
        return f"{self.host.incarnation}.{self.number}"

    @property
    def root(self) -> Request:
        """Return the request at the top of the tree of child requests."""
        return self.top or self

    @property
    def deadline_s(self) -> float:
        """Return the deadline in seconds of the event loop's clock."""
        if self.parent is not None:
            return self.root.deadline_s
        if not self.deadline_given_s:
            self.deadline_given_s = self.host.now_s() + self.timeout_s
        return self.deadline_given_s

    @property
    def begun_s(self) -> float:
        """Return when a root request began, in seconds of the event loop's clock."""
        return self.deadline_s - self.timeout_s

    @property
    def item(self) -> Any:
        """Return what the request was begun with, where its loops may ask for it; None where many items are sent."""
        return self.details.item if self.details is not None else None

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Return what the caller sent along; child requests see their root's."""
        details = self.root.details
        return details.attributes if details is not None else _NO_ATTRIBUTES

    @property
    def cancelled(self) -> bool:
        """Return whether the request has ended."""
        return self.state != RUNNING

    # -- progress

    def more(self) -> Details:
        """Return the details, made when first asked for."""
        if self.details is None:
            self.details = Details()
        return self.details

    def outstanding(self) -> int:
        """Return the number of items and holds that are not finished, unread replies included."""
        unread = self.replies.unread if self.replies is not None else 0
        return (self.counts[0] if self.progress is None else sum(self.counts)) + unread

    def loops(self) -> list[LoopReport]:
        """Return how far the request is in the loops of its stream."""
        return [report for loop in self.stream.loops if (report := loop.report(self)) is not None]

    def report(self, began_s: float) -> RequestReport:
        """Return how far the request is, for whoever has waited since `began_s`."""
        return RequestReport(self.outstanding(), self.host.now_s() - began_s, tuple(self.loops()), self.id)

    def settle(self) -> None:
        """Act on a count that has come to zero: deliver ends of input, or complete."""
        if self.state:
            return
        progress = self.progress
        if progress is None:
            if not self.counts[0]:
                self.complete()
            return
        while (number := progress.next_end()) is not None:
            if number == COMPLETE:
                self.complete()
                return
            if not self.stream.nodes[number].finish(self):
                return  # it produces in slices and gives up its hold when it is done
            self.counts[self.stream.regions.out[number]] -= 1
            if self.cancelled:
                return  # what it produced has failed the request

    def release(self, region: int, count: int = 1) -> None:
        """Give up items or holds that are finished."""
        self.counts[region] -= count
        if not self.counts[region]:
            self.settle()
        if self.bulk:
            self.relieve()

    def grow(self, count: int, taken: int) -> None:
        """Prepare for many items that come of `taken` ones: enforce the budget, choose the lane."""
        limits = self.host.limits
        outstanding = self.outstanding()
        if outstanding + count - taken > limits.items_per_request:
            self.fail(
                ItemBudgetError(
                    f"request {self.id} of stream {self.stream.name} has {outstanding + count - taken} items "
                    f"outstanding (limit {limits.items_per_request}); produce less at once, or raise "
                    "Limits(items_per_request=…)",
                    stream=self.stream.name,
                    request_id=self.id,
                )
            )
        elif not self.bulk:
            self.make_bulk(CLEAN if outstanding <= taken else MIXED)
        if self.bulk:
            self.host.check_budget()

    def make_bulk(self, how: int) -> None:
        """Move to the bulk lanes: CLEAN when no item waits in a quick lane, MIXED when some may."""
        self.bulk = how
        self.host.bulk[self] = None

    def relieve(self) -> None:
        """Let generators and inputs go on when enough has been consumed."""
        details = self.details
        waiting = details is not None and (details.parked or details.feeds)
        if details is not None and waiting and not self.crowded(0, self.host.limits.items_ahead // 2):
            details.wake_producers(self)

    def crowded(self, own: int = 0, limit: int | None = None) -> bool:
        """Return whether producers should pause: too much is under way, or waits for a slow reader.

        own: items that wait behind the producer itself. Those, and what waits behind parked ones, are not under way:
        they move only when the producer does.
        """
        replies = self.replies
        unread = replies.unread if replies is not None else 0
        if replies is not None and replies.streamed:
            if unread > self.host.limits.replies_unread:
                return True
            unread = 0  # they wait for a reader, as items do for an operator
        parked = sum(self.details.parked.values()) if self.details is not None else 0
        return self.outstanding() - unread - parked - own > (limit or self.host.limits.items_ahead)

    async def room(self, own: int = 0) -> None:
        """Wait until producers may go on, or the request has ended."""
        while self.crowded(own) and not self.state:
            waiting = self.host.loop.create_future()
            self.more().own("feeds")[waiting] = None
            await waiting

    def needs(self, look: Look) -> list[list[Any]]:
        """Return what whoever awaits this request waits for: each piece of its work that is suspended or queued.

        One that has ended is waited for by nobody any more, though what it consists of may still unwind.
        """
        return [] if self.state else look.pieces_of(self)

    def has_committed(self) -> bool:
        """Return whether an activation of this request, or of one below it that is still open, has committed."""
        todo = [self]
        while todo and not self.committed:
            request = todo.pop()
            self.committed = request.committed
            if request.details is not None:
                todo.extend(request.details.children)
        return self.committed

    # -- replies

    def answer_value(self) -> Any:
        """Return what a request that ended well answers: its reply, the list of its replies, or None."""
        if self.replies is not None:
            return self.replies.take()
        return None if self.value is UNSET else self.value

    def deliver(self, values: Iterable[Any]) -> None:
        """Take replies that have passed the return stack."""
        if self.state:
            return
        kind = self.stream.replies
        if kind == "one":
            for value in values:
                if self.value is not UNSET:
                    self.fail(
                        TooManyRepliesError(
                            f"stream {self.stream.name} answered request {self.id} more than once; gather the items "
                            "(collect, fold, …), or declare replies='many'",
                            stream=self.stream.name,
                            request_id=self.id,
                        )
                    )
                    return
                self.value = value
                if self.stream.early and not self.answered:
                    self.answered = True
                    self._answer()
        elif kind == "many" and self.replies is not None:
            if self.stream.gated and self.parent is None and self.replies.streamed:
                self.replies.hold(list(values))
            else:
                self.replies.push(values)

    # -- the end

    def complete(self) -> None:
        """End well: nothing of the request is anywhere."""
        if self.value is UNSET and self.stream.replies == "one":
            self.fail(
                NoReplyError(
                    f"stream {self.stream.name} ended request {self.id} without an answer: every item was filtered, "
                    "dropped or discarded, or an actor kept it; declare replies='many' or 'none' if that is meant",
                    stream=self.stream.name,
                    request_id=self.id,
                )
            )
            return
        self.state = REPLIED
        if self.registered or self.details is not None or self.on_end is not None or self.parent is not None:
            self._end()
            return
        # it has ended before its first turn was over: nobody knows of it yet
        if self.bulk:
            self.host.bulk.pop(self, None)
        if self.answered:
            if self.replies is not None:
                self.replies.close()
            return
        self.answered = True
        journal = self.host.journal
        if journal is not None and self.stream.gated:
            self.held = True
            journal.hold(self)
        elif self.replies is not None:
            self.replies.close()

    def fail(self, error: ActorflowError) -> None:
        """End badly, once: what is left is cancelled. After an early answer the error becomes a dead letter."""
        if self.state:
            return
        error.request_id = error.request_id or self.id
        error.retryable = not self.has_committed()
        self.state = FAILED
        self.error = error
        if self.answered:
            self.host.dead_letters.add(self, error)
        self._end()

    def cancel(self, why: str = "the caller cancelled it") -> None:
        """End because nobody waits any more."""
        self.fail(
            RequestCancelledError(
                f"request {self.id} of stream {self.stream.name} was cancelled: {why}", stream=self.stream.name
            )
        )

    def expire(self) -> None:
        """End because the deadline has passed."""
        where = "".join(f"; {loop}" for loop in self.loops())
        self.fail(
            DeadlineExceededError(
                f"request {self.id} of stream {self.stream.name} did not end within {self.timeout_s:g} s; "
                f"{self.outstanding()} items or holds were not finished{where}",
                stream=self.stream.name,
            )
        )

    def _end(self) -> None:
        self.host.ended(self)
        if self.details is not None:
            self._let_go(self.details)
        if not self.answered:
            self.answered = True
            self._answer()
        elif self.replies is not None:
            self.replies.close()

    def _answer(self) -> None:
        journal = self.host.journal
        if journal is not None and self.parent is None and self.stream.gated:
            self.held = True
            journal.hold(self)
        else:
            self.tell()

    def stream_replies(self) -> ReplyQueue:
        """Return where its replies are read while they come: whoever makes them waits for whoever reads them."""
        if self.replies is None:
            self.replies = ReplyQueue(self)
        self.replies.streamed = True
        return self.replies

    def let_go_of_replies(self) -> None:
        """Keep no replies: whoever reads them has come to their end. A request and its queue keep each other alive."""
        if self.state:
            self.replies = None
            if self.details is not None:
                self.details.input = None

    def lost(self, error: ActorflowError) -> None:
        """Tell whoever waits that the outcome is unknown: it will never be durable."""
        said = f"the outcome of request {self.id} is unknown, since the host could not keep it: {error}"
        self.error = type(error)(said, stream=self.stream.name, host=self.host.name)
        self.error.retryable = False
        self.tell()

    def tell(self) -> None:
        """Tell whoever waits how this has ended."""
        self.held = False
        if self.replies is not None:
            self.replies.close()
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
        if self.on_end is not None:
            self.host.end_later(self.on_end, self)
        if self.details is not None and self.details.watchers:
            for watcher in list(self.details.watchers):
                self.host.end_later(watcher, self)
            self.details.watchers.clear()

    def _let_go(self, details: Details) -> None:
        """Cancel and release all that the request still has anywhere; what waits in mailboxes is dropped there."""
        for timer, region in details.timers.items():
            timer.cancel()
            self.counts[region] -= 1
        details.timers.clear()
        if self.progress is not None:
            for number in self.progress.holders:
                self.counts[self.stream.regions.out[number]] -= 1
            self.progress.holders.clear()
        details.folds.clear()
        for release in details.releases:
            release()
        details.releases.clear()
        details.scratch.clear()
        for child in list(details.children):
            self.host.end_later(child.cancel, "its parent has ended")
        for activation in list(details.activations):
            activation.cancel()
        for replica in list(details.actors.values()):
            replica.close(at_once=True)
        details.actors.clear()
        details.wake_producers(self)
        if details.frames:
            self.host.unwind_rest(self, details.frames)


class Timer:
    """An item that waits for its time. about: where it goes then, `(replica, context, due in seconds, item)`."""

    __slots__ = ("about", "handle")

    def __init__(self, about: tuple[Replica, Any, float, Any]) -> None:
        self.about = about
        self.handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Let it never come."""
        if self.handle is not None:
            self.handle.cancel()


class Hold:
    """Something that will still produce: a deferred answer, an open input. Given up once, or with the request."""

    __slots__ = ("_region", "_request", "taken")

    def __init__(self, request: Request, region: int) -> None:
        self._request = request
        self._region = region
        self.taken = False

    def take(self) -> None:
        """Count."""
        self.taken = True
        self._request.counts[self._region] += 1
        self._request.more().own("releases")[self] = None

    def __call__(self) -> None:
        """Stop counting because the request has ended."""
        if self.taken:
            self.taken = False
            self._request.counts[self._region] -= 1

    def give_up(self) -> None:
        """Stop counting because it has produced what it will."""
        if self.taken:
            self.taken = False
            self._request.more().releases.pop(self, None)
            self._request.release(self._region)


class ReplyQueue:
    """Streamed replies on their way to one reader: bounded, since unread replies count as items of the request.

    The one answer of a stream that gives one comes here too, at the end.
    """

    __slots__ = ("_closed", "_given", "_held", "_request", "_values", "_waiting", "streamed")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._values: deque[Any] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False
        self._given = request.stream.replies != "one"  # what there is to give at the end
        self._held = 0  # values that wait until what they follow from is durable
        self.streamed = False  # somebody reads while they come, so it pays to wait for a slow reader

    @property
    def unread(self) -> int:
        """Return the number of replies that wait for the reader."""
        return len(self._values) + self._held

    def hold(self, values: list[Any]) -> None:
        """Add replies as soon as what they follow from is durable."""
        journal = self._request.host.journal
        assert journal is not None
        self._held += len(values)

        def let_go() -> None:
            self._held -= len(values)
            self.push(values)

        journal.hold(Leaving(let_go))

    def peek(self) -> list[Any]:
        """Return all replies that are there, and leave them."""
        return list(self._values)

    def push(self, values: Iterable[Any]) -> None:
        """Add replies and wake the reader."""
        self._values.extend(values)
        self._wake()

    def close(self) -> None:
        """Note that no more replies will come."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def take(self) -> list[Any]:
        """Return all replies that are there."""
        values = list(self._values)
        self._values.clear()
        return values

    async def read(self) -> list[Any]:
        """Return all replies that are there, at least one; an empty list at the end.

        Raises: what the request failed with, after the replies that came before.
        """
        while not self._values:
            if self._closed:
                if self._request.error is not None:
                    raise self._request.error
                if self._given:
                    return []
                self._given = True
                return [self._request.value]
            self._waiting = self._request.host.loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        values = self.take()
        if self._request.bulk:
            self._request.relieve()
        return values

    async def __aiter__(self) -> AsyncIterator[Any]:
        while values := await self.read():
            for value in values:
                yield value
