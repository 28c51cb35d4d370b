"""An activation: one `process` call on one item, as a transaction.

What an operator does while it works is kept here and takes effect in `commit`, together, or is forgotten in `abort`.
Sync activations of a host never overlap, so they share one object; each worker of an async replica has its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from actorflow import codec
from actorflow.address import Address
from actorflow.core.locks import Locks
from actorflow.core.waits import TooManyWaitersError, find_circle
from actorflow.envelope import Context
from actorflow.errors import (
    AccessError,
    ActorflowError,
    CallCycleError,
    DroppedReplyError,
    ReplayError,
    RequestCancelledError,
    activation_error,
    summary,
)
from actorflow.plan.cells import Access
from actorflow.plan.operator import Operator
from actorflow.runtime.access import NO_KEY, OVERLAY, handle_of
from actorflow.runtime.cells import Entries, Pending, forget_overlay, ordered, undo_in_place
from actorflow.runtime.request import RUNNING, UNSET, Hold, Request
from actorflow.runtime.waiting import WAITERS_AT_ONCE, Look

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.replica import Replica


class Cancellable(Protocol):
    """What runs an async activation: a worker, or the task of an `on_reply` call."""

    def cancel(self) -> None:
        """Cancel what the activation awaits."""


NAMES_MAX = 12
"""Names of a circle that an error tells; a recursion may have thousands."""

RECORDED_MAX = 10_000
"""Answers that one activation keeps in case it is run again."""


class Ask:
    """Where the answer of an `ask` goes."""

    __slots__ = ("activation", "answered", "asker", "error", "future", "replica", "value")

    def __init__(self, asker: Activation, replica: Replica) -> None:
        self.asker = asker
        self.future: asyncio.Future[None] | None = None  # made only when the answer does not come at once
        self.answered = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.replica = replica
        self.activation: Activation | None = None  # the one that works on it, while it does

    def reply(self, value: Any) -> None:
        """Answer; a later answer, or one that nobody waits for, is ignored."""
        if self.answered:
            return
        if self.replica.host.strict:
            try:
                value = codec.handed_over(value)
            except ActorflowError as error:
                self.fail(error)
                return
        self.value = value
        self._end()

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        if not self.answered:
            self.error = error
            self._end()

    def needs(self, look: Look) -> list[list[Any]]:
        """Return whom the asker waits for: who works on it, or those before it in the mailbox; nobody once answered."""
        if self.answered:
            return []
        return [[self.activation]] if self.activation is not None else look.queued_at(self.replica, self)

    def forget(self) -> None:
        """Note that nobody waits any more."""
        self.answered = True

    def _end(self) -> None:
        self.answered = True
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class _StrictEffects(list[tuple[Any, Any]]):
    """Effects whose items are handed over when the verb is called, where an item that cannot travel is at fault."""

    def append(self, effect: tuple[Any, Any]) -> None:
        target, item = effect
        super().append((target, codec.handed_over(item)) if target.__class__ is Address else effect)


def tell_into(effects: list[tuple[Any, Any]]) -> Callable[[Address, Any], None]:
    """Return a `tell` that puts what is told straight into a list of effects."""
    append = effects.append

    def tell(address: Address, item: Any) -> None:
        if address.__class__ is not Address:
            raise TypeError(f"tell(address, item): {summary(address)} is not an address; spawn() returns one")
        append((address, item))

    return tell


class Answer:
    """What a child request of an activation answered, kept in case the activation is run again."""

    __slots__ = ("asked", "error", "item", "used", "value")

    def __init__(self, asked: str | Address, item: Any, value: Any, error: ActorflowError | None = None) -> None:
        self.asked = asked
        self.item = item
        self.value = value
        self.error = error
        self.used = True

    def result(self) -> Any:
        """Return what was answered. Raises: what it was answered with."""
        if self.error is not None:
            raise self.error
        return self.value


class Again:
    """An activation to be run again: what its earlier run was answered, and how much it had handed on."""

    __slots__ = (
        "children", "context", "exclusively", "fed", "given", "handed", "held", "item", "key", "onward", "passed",
        "recorded", "replica", "request", "reruns",
    )  # fmt: skip

    def __init__(self, activation: Activation, key: Any) -> None:
        self.request = activation.request
        self.context = activation.context
        self.onward = activation.onward
        self.item = activation.item
        self.recorded = activation.recorded
        self.reruns = activation.reruns + 1
        self.handed = activation.handed
        self.fed = activation.fed
        self.key = key
        self.passed = False  # an item of another request went before
        self.given = activation.given
        self.exclusively = activation.exclusively
        self.children = activation.children
        self.held: list[tuple[Locks[Any], Any, bool]] = []
        self.replica: Replica | None = None

    @classmethod
    def restored(cls, **kept: Any) -> Again:
        """Return an activation to be run again as it was written down before a restart."""
        again = cls.__new__(cls)
        for name, value in kept.items():
            setattr(again, name, value)
        again.passed = True
        again.exclusively = NO_KEYS
        again.children = []
        return again

    def needs(self, look: Look) -> list[list[Any]]:
        """Return what it waits for: nothing, it is about to run."""
        return []

    @property
    def waiting(self) -> dict[Any, Any]:
        """Return what it awaits just now: nothing."""
        return {}

    def child_ended(self, child: Request) -> None:
        """Keep the answer of a child request that was under way at a restart, until it is asked for."""
        answer = answer_before(self.children, child)
        if answer is not None:
            self.recorded.append(answer)

    def __call__(self) -> None:
        """Give up what it holds: its request has ended before it ran."""
        for locks, _, _ in self.held:
            tell_granted(locks, locks.release(self))
        self.held = []


NO_KEYS: set[tuple[Locks[Any], Any]] = set()
"""Shared by all that want none; never added to."""


class LockWait:
    """The wait of an activation for a key that others work on."""

    __slots__ = ("activation", "began_s", "entries", "error", "future", "key", "waiters")

    def __init__(self, activation: Activation, entries: Entries, key: Any) -> None:
        self.activation = activation
        self.entries = entries
        self.key = key
        self.future: asyncio.Future[None] = activation.host.loop.create_future()
        self.error: BaseException | None = None
        self.waiters = 0  # tasks of the activation that wait here
        self.began_s = activation.host.now_s()

    def needs(self, look: Look) -> list[list[Any]]:
        """Return whom it waits for: everybody who holds the key, or asked for it before; nobody once it has ended."""
        if self.future.done():
            return []
        return [[blocker] for blocker in self.entries.locks.in_the_way(self.activation, self.key)]

    def fail(self, error: BaseException) -> None:
        """End the wait with an error."""
        self.error = error
        self.end()

    def end(self) -> None:
        """End the wait."""
        if not self.future.done():
            self.future.set_result(None)


class Activation:
    """What one activation has done so far.

    out: items for the next step.   back: items for the way back of a loop.
    effects: `(address, item)` for tells, `(function, argument)` for all else, in order.
    onward: the context of what it hands on.   waiting: the child requests and asks it awaits.
    recorded: answers that an earlier run of it received.   handed: items handed on before its end.
    skip: of those that an earlier run had handed on, how many are still to be left out.   fed, skip_back: the same of
    items fed back.
    undo: `(entries, key, what was there)` of what was written in place.   overlay: what is written when it commits.
    key, keys: in hand, of what it owns.   locked: in which key spaces it has, or waits for, locks.   handles: those of
    its operator's accesses.   parent: of a child transaction, the activation that it is part of.   given: the time and
    the seed that it was given, the same when it is run again.   children: child requests that were under way at a
    restart, with stream and item.
    """

    __slots__ = (
        "answered",
        "back",
        "began_s",
        "chance",
        "children",
        "context",
        "deferred",
        "effects",
        "exclusively",
        "fed",
        "given",
        "handed",
        "handles",
        "host",
        "item",
        "key",
        "keys",
        "lock_waits",
        "locked",
        "onward",
        "out",
        "over",
        "overlay",
        "parent",
        "recalled",
        "recorded",
        "replica",
        "request",
        "rerun",
        "reruns",
        "skip",
        "skip_back",
        "spawned",
        "undo",
        "waiting",
        "worker",
    )  # fmt: skip

    def __init__(self, host: Host, worker: Cancellable | None = None) -> None:
        self.host = host
        self.worker = worker
        self.replica: Replica = None  # type: ignore[assignment] # set before any user code runs
        self.request: Request = None  # type: ignore[assignment]
        self.context: Context | None = None
        self.item: Any = None
        self.over = False
        self.exclusively = NO_KEYS
        self.began_s = 0.0  # when it is one of those that are measured
        self.out: list[Any] = []
        self.back: list[Any] = []
        self.effects: list[tuple[Any, Any]] = _StrictEffects() if host.strict else []
        self.spawned: list[Replica] = []
        self.waiting: dict[Request | Ask | LockWait | Activation, Any] = {}  # of a child, what it was asked
        self.undo: list[tuple[Entries, Any, Any]] = []
        self.overlay: dict[Entries, Pending] = {}
        self.key: Any = NO_KEY
        self.keys: set[Any] | None = None
        self.locked: list[Locks[Any]] = []
        self.lock_waits: dict[tuple[Locks[Any], Any], LockWait] = {}
        self.handles: dict[Access, Any] = {}
        self.parent: Activation | None = None
        self.given: tuple[float, int] | None = None
        self.chance: random.Random | None = None
        self.recalled = 0  # answers at the beginning of `recorded` that have been used
        self.children: list[tuple[str, Any, Request]] = []
        self.recorded: list[Answer] = []
        self.onward: Context | None = None
        self.reruns = self.handed = self.skip = self.fed = self.skip_back = 0
        self.deferred = self.answered = self.rerun = False

    # -- the operator's verbs

    def reply(self, value: Any) -> None:
        self.answered = True
        self.effects.append((_reply, (self.context, value)))

    def send(self, stream: str, item: Any, after_s: float | None = None) -> str | None:
        wiring = self.host.stream(stream)
        item = wiring.checked(item)
        if self.host.strict:
            item = codec.handed_over(item)
        if after_s is None:
            self.effects.append((_send, (wiring, item)))
            return None
        if not after_s >= 0:
            raise ValueError(f"send(after_s={after_s}): a delay is zero or more seconds")
        self.host.delays.check_room()
        ticket = f"{self.host.incarnation}.{self.host.next_number()}"
        self.effects.append((_send_later, (ticket, stream, item, self.host.wall_s() + after_s)))
        return ticket

    def cancel_send(self, ticket: str) -> None:
        if type(ticket) is not str:
            raise TypeError(f"cancel_send(ticket): {summary(ticket)} is no ticket; send(…, after_s=…) returns one")
        self.effects.append((_cancel_send, ticket))

    # -- what is the same when it is run again

    def gave(self) -> tuple[float, int]:
        """Return the time and the seed of this activation."""
        if self.worker is None:
            return self.host.wall_s(), self.host.chance.getrandbits(64)  # a plain one has no second run
        if self.given is None:
            self.given = (self.host.wall_s(), self.host.chance.getrandbits(64))
        return self.given

    def random(self) -> random.Random:
        if self.worker is None:
            return self.host.chance
        if self.chance is None:
            self.chance = random.Random(self.gave()[1])
        return self.chance

    def stop(self, address: Address) -> None:
        if address.__class__ is not Address:
            raise TypeError(f"stop_actor(address): {summary(address)} is not an address; spawn() returns one")
        self.effects.append((_stop, address))

    def after(self, delay_s: float, item: Any) -> None:
        if not delay_s >= 0:
            raise ValueError(f"after(delay_s={delay_s}): a delay is zero or more seconds")
        self.effects.append((_after, (self.replica, self.context, delay_s, item)))

    def address(self) -> Address:
        address = self.replica.address
        if address is None:
            raise TypeError(
                f"{self.replica.name} is an operator of stream {self.replica.stream.name} and has no address: "
                "only spawned actors have; use call() or send() to reach a stream"
            )
        return address

    def spawn(
        self, operator: type[Operator], args: tuple[Any, ...], kwargs: dict[str, Any], *, detached: bool
    ) -> Address:
        replica = self.host.spawn(self, operator, args, kwargs, detached=detached)
        self.spawned.append(replica)
        self.effects.append((_keep_spawned, None))
        assert replica.address is not None
        return replica.address

    def defer(self) -> Deferred:
        if self.deferred:
            raise TypeError("defer() was called twice for one item: there is one answer to give")
        self.deferred = True
        deferred = Deferred(self)
        self.effects.append((_keep, deferred))
        return deferred

    # -- shared state

    def handle(self, access: Access) -> Any:
        handle = self.handles.get(access)
        if handle is None:
            if self.over:
                raise self.ended_error()
            handle = self.handles[access] = handle_of(self, access)
        return handle

    def forget_cell(self, entries: Entries) -> None:
        """Keep no handle of a cell that is gone."""
        for access in [access for access, handle in self.handles.items() if handle.is_of(entries)]:
            del self.handles[access]

    def wrote(self) -> None:
        """Note that something of this activation has taken effect: from now on its request cannot begin again."""
        if self.host.journal is not None:
            self.host.journal.mark_written(self.request)

    def leave_behind(self) -> None:
        """Refuse what code of this activation does that still runs: it has ended, and takes effect no more."""
        self.over = True
        self.handles = {}

    def ended_error(self) -> AccessError:
        """Return the error of what was left running when its activation ended."""
        return AccessError(
            f"{self.replica.stream.name}/{self.replica.name}: the activation that this belongs to has ended; await all "
            "that it starts before it returns or raises, such as by asyncio.TaskGroup",
            operator=self.replica.name,
        )

    def pending(self, entries: Entries) -> Pending:
        """Return what this activation is going to write into a cell, to be added to."""
        if self.over:
            raise self.ended_error()
        if not self.overlay:
            self.effects.append(OVERLAY)
        pending = self.overlay.get(entries)
        if pending is None:
            pending = self.overlay[entries] = Pending(entries)
        return pending

    async def lock(self, entries: Entries, keys: Sequence[Any], *, shared: bool = False) -> None:
        """Wait until this activation holds all of some keys, taken in their order, to its end.

        Raises: CallCycleError.
        """
        while left := self.lock_now(entries, keys, shared=shared):
            await self.wait_for_lock(entries, left[0])
            keys = left[1:]

    def lock_now(self, entries: Entries, keys: Sequence[Any], *, shared: bool) -> tuple[Any, ...]:
        """Take keys in their order up to the first that somebody else holds; return that one and those behind it."""
        locks = entries.locks
        if locks not in self.locked:
            if self.over:
                raise self.ended_error()
            self.locked.append(locks)
        if not shared and locks.take_free(self, keys):
            return ()
        ahead = iter(keys if len(keys) < 2 else ordered(keys))
        for key in ahead:
            if not locks.ask(self, key, shared=shared and (locks, key) not in self.exclusively):
                return (key, *ahead)
        return ()

    async def wait_for_lock(self, entries: Entries, key: Any) -> None:
        """Wait for a key that was asked for, and not granted at once. Raises: CallCycleError."""
        locks = entries.locks
        wait = self.lock_waits.get((locks, key))
        begins = wait is None
        if wait is None:
            wait = self.lock_waits[locks, key] = LockWait(self, entries, key)
            self.waiting[wait] = None
        wait.waiters += 1
        try:
            if begins:
                self._refuse_circle(wait)
            await asyncio.shield(wait.future)
            if wait.error is not None:
                raise wait.error
        except BaseException:
            if wait.waiters == 1:
                tell_granted(locks, locks.withdraw(self, key))
            raise
        finally:
            wait.waiters -= 1
            if not wait.waiters:
                self.waiting.pop(wait, None)
                self.lock_waits.pop((locks, key), None)

    def granted(self, locks: Locks[Any], key: Any) -> None:
        """Note that this activation holds a key that it has waited for."""
        wait = self.lock_waits.get((locks, key))
        if wait is not None:
            wait.end()
        if len(self.waiting) > 1:  # it waits for something else, too: those who wait for this key wait for that now
            for waiter in locks.waiting(key):
                if isinstance(waiter, Activation) and (behind := waiter.lock_waits.get((locks, key))) is not None:
                    self.host.circles.look_later(waiter, behind)

    def release_locks(self) -> None:
        """Let others have what this activation has locked: it has ended."""
        journal = self.host.journal
        if journal is not None and self.request is not None:
            journal.touch(self.request)  # what is written down of it says that it holds these
        for locks in self.locked:
            tell_granted(locks, locks.release(self))
        if self.lock_waits:  # of tasks that were left running
            for wait in list(self.lock_waits.values()):
                wait.error = wait.error or self.ended_error()
                wait.end()
            self.lock_waits.clear()
        self.locked.clear()
        self.key, self.keys = NO_KEY, None

    async def child_transaction(
        self, asked: str, keys: tuple[Any, ...], work: Callable[[Activation], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Do some work in a transaction that commits by itself, within this activation."""
        if self.recorded and (answer := self._recall(asked, keys)) is not None:
            return answer.result()
        child = Activation(self.host, self.worker)
        child.parent, child.replica, child.request, child.context = self, self.replica, self.request, self.context
        self.waiting[child] = None
        try:
            result = await work(child)
        except BaseException:
            child.abort()
            raise
        else:
            if child.effects:
                child.commit()
            self._record(asked, keys, result)
            return result
        finally:
            self.waiting.pop(child, None)
            if self.request.details is not None:
                self.request.details.activations.pop(child, None)
            child.release_locks()

    # -- the verbs of loops

    def feedback(self, item: Any) -> None:
        if self.replica.node.feed is None:
            raise TypeError(
                f"{self.replica.name} has no feedback edge: declare one with .then({self.replica.node.name}, "
                "feedback=True), or feedback=point for an earlier step"
            )
        self.back.append(item)

    def feed_back(self, context: Context | None) -> None:
        """Let what was fed back go, as `hand_on` what was emitted; a re-run leaves out what its first run fed back."""
        request, items = self.request, self.back[:]
        self.back.clear()
        if self.worker is not None:
            skip = min(self.skip_back, len(items))
            self.skip_back -= skip
            self.fed += len(items)
            if not (items := items[skip:]):
                return
        feed = self.replica.node.feed
        assert feed is not None, "nothing is fed back where there is no way"
        if request.state:
            return
        request.committed = True
        if request.stream is not self.replica.stream:
            self.replica.no_way_on(request, items)
            return
        feed(request, context, items)

    def rounds(self) -> tuple[int, ...]:
        loops = self.replica.node.loops
        if not loops:
            raise TypeError(f"{self.replica.name} is in no loop, so there is no round")
        self._check_own_stream()
        return tuple(loop.round_of(self.request, self.context) for loop in loops)

    def vote(self, value: Any) -> None:
        gate = self.replica.node.gate
        if gate is None or gate.rounds.fold is None:
            where = (
                "is in no synchronous loop: only steps from which items can come back are in one"
                if gate is None
                else f"is in loop {gate.node.name}, which has no fold: declare how votes are folded (fold=)"
            )
            raise TypeError(f"{self.replica.name} {where}")
        self._check_own_stream()
        self.effects.append((_vote, (gate, codec.handed_over(value) if self.host.strict else value)))

    def loop_state(self) -> Any:
        gate = self.replica.node.gate
        if gate is None:
            raise TypeError(f"{self.replica.name} is in no synchronous loop, so there is no loop state")
        self._check_own_stream()
        run = gate.run_of(self.request)
        state = run.state if run is not None else None
        return codec.handed_over(state) if self.host.strict else state

    def _check_own_stream(self) -> None:
        """Refuse the verbs of loops to an actor that works for a request of another stream, which is not in its loops.

        Raises: TypeError.
        """
        if self.request.stream is not self.replica.stream:
            raise TypeError(
                f"{self.replica.name} belongs to loops of stream {self.replica.stream.name}, and this request of "
                f"stream {self.request.stream.name} is in none of them"
            )

    def scratch(self) -> dict[Any, Any]:
        if self.request is None:
            raise TypeError("start() works for no request that notes could belong to")
        notes = self.request.more().own("scratch")
        mine: dict[Any, Any] | None = notes.get(self.replica)
        if mine is None:
            mine = notes[self.replica] = {}
        return mine

    async def call(self, stream: str, item: Any) -> Any:
        wiring = self.host.stream(stream)
        item = wiring.checked(item)
        if self.request is not None and self.request.state and hasattr(self.worker, "retire"):
            # what its code has started beside it goes on for a moment, and must begin nothing any more
            raise RequestCancelledError(f"request {self.request.id} has ended: it cannot call {stream}", stream=stream)
        if self.recorded and (answer := self._recall(stream, item)) is not None:
            return answer.result()
        child = self._child_before(stream, item) if self.children else None
        if child is None:
            child = self.host.call(self, wiring, item)
        if child.state == RUNNING:
            self.waiting[child] = (stream, item)
            try:
                self._refuse_circle(child)
                child.future = self.host.loop.create_future()
                await child.future
            finally:
                self.waiting.pop(child, None)
                if child.state == RUNNING and not self.host.crashed:
                    child.cancel("its caller no longer waits")
            if child.error is not None:
                raise child.error
            return child.value if child.replies is None else child.answer_value()
        value = child.answer_value() if child.error is None else None
        self._record(stream, item, value, child.error)
        if child.error is not None:
            raise child.error
        return value

    def child_ended(self, child: Request) -> None:
        """Keep the answer of a child request that this awaits: from now on it has it, though it has not gone on yet."""
        asked = self.waiting.get(child)
        if asked is not None:
            stream, item = asked
            self._record(stream, item, *_outcome_of(child))
        elif (answer := answer_before(self.children, child)) is not None:
            self.recorded.append(answer)

    async def ask(self, address: Address, item: Any) -> Any:
        replica = self.host.actor(address)
        if replica is None:
            raise self.host.gone(address, [item], self.request)
        if self.reruns and (answer := self._recall(address, item)) is not None:
            return answer.result()
        host, ask = self.host, Ask(self, replica)
        context = Context(ask=ask, rounds=self.context.rounds if self.context is not None else ())
        if host.strict:
            item = codec.handed_over(item)
        if host.inline and not host.awake:
            host.take_now(replica, self.request, context, item)
        else:
            replica.put(self.request, context, [item])
        if not ask.answered:
            self.waiting[ask] = None
            try:
                if replica.suspends:
                    self._refuse_circle(ask)
                ask.future = host.loop.create_future()
                await ask.future
            finally:
                self.waiting.pop(ask, None)
                ask.forget()
        if ask.error is not None:
            raise ask.error
        self._record(address, item, ask.value)
        return ask.value

    def _child_before(self, stream: str, item: Any) -> Request | None:
        """Return the child request that was under way for the same question before a restart."""
        for index, (asked, about, child) in enumerate(self.children):
            if asked == stream and about == item:
                del self.children[index]
                child.caller = self
                return child
        return None

    def _recall(self, asked: str | Address, item: Any) -> Answer | None:
        """Return the answer that an earlier run of this activation received for the same question."""
        recorded = self.recorded
        while self.recalled < len(recorded) and recorded[self.recalled].used:
            self.recalled += 1  # what follows from an item is asked in the same order, more or less
        for index in range(self.recalled, len(recorded)):
            answer = recorded[index]
            if not answer.used and answer.asked == asked and answer.item == item:
                answer.used = True
                return answer
        return None

    def _record(self, asked: str | Address, item: Any, value: Any, error: ActorflowError | None = None) -> None:
        """Keep an answer in case this is run again; one that asks without end is not, so that it need not be kept."""
        if len(self.recorded) < RECORDED_MAX:
            self.recorded.append(Answer(asked, item, value, error))

    def check_replay(self) -> None:
        """Refuse a re-run that did not ask for what its first run was answered.

        Raises: ReplayError.
        """
        left = [(answer.asked, answer.item) for answer in self.recorded if not answer.used]
        left += [(stream, item) for stream, item, _ in self.children]
        if left:
            asked, item = left[0]
            raise ReplayError(
                f"{self.replica.name} was run again and did not ask {asked} for {summary(item)} as its first run did: "
                "what it asks must follow from its item",
                stream=self.replica.stream.name,
                operator=self.replica.name,
            )

    def needs(self, look: Look) -> list[list[Any]]:
        """Return what this activation waits for: all of it; one that is about to be rolled back waits for nothing."""
        if self.rerun or (self.parent is not None and self.parent.rerun):
            return []
        return [[target] for target in self.waiting]

    def _refuse_circle(self, awaited: Request | Ask | LockWait) -> None:
        """Act when the wait that begins now closes a circle.

        Raises: CallCycleError, within a request; between requests the youngest activation is run again.
        """
        self.request.more().own("activations")[self] = None  # it is about to suspend: others look for it there
        error = self._circle(awaited)
        if error is not None:
            raise error
        # what is only now being queued, or taken up, may close one in this very turn: looked at once more after it
        self.host.circles.look_later(self, awaited)

    def reconsider(self, awaited: Request | Ask | LockWait) -> None:
        """Look once more for a circle: what this activation waits for has just been queued behind others."""
        if awaited in self.waiting:
            error = self._circle(awaited)
            if error is not None:
                awaited.fail(error)

    def _circle(self, awaited: Request | Ask | LockWait) -> CallCycleError | None:
        # of its own waits only the new one can close a circle; an activation may have thousands
        look = Look(waiters_max=WAITERS_AT_ONCE)
        try:
            circle = find_circle(
                cast("Any", self),
                lambda waiter: [[awaited]] if waiter is self else look.needs_of(waiter),
                waiters_max=WAITERS_AT_ONCE,
            )
        except TooManyWaitersError:
            self.host.circles.look_later(self, awaited)
            return None
        return self.broken(circle) if circle is not None else None

    def broken(self, circle: list[Any]) -> CallCycleError | None:
        """Break a circle that this is stuck behind: an activation of it is run again, or this gets an error."""
        activations = [waiter for waiter in circle if isinstance(waiter, Activation)]
        if len({activation.request.root for activation in activations}) > 1:
            for youngest in sorted(activations, key=lambda activation: -activation.request.root.number):
                if youngest.run_again():
                    return None
        if self not in circle and activations:
            # who only waits behind it is not to blame: somebody in it gives up, the youngest
            scapegoat = max(activations, key=lambda activation: activation.request.root.number)
            awaited = circle[(circle.index(scapegoat) + 1) % len(circle)]
            error = scapegoat.blamed(circle)
            awaited.fail(error) if hasattr(awaited, "fail") else scapegoat.request.fail(error)
            return None
        return self.blamed(circle)

    def blamed(self, circle: list[Any]) -> CallCycleError:
        """Return the error that names a circle."""
        names = [name for name in map(_waiter_name, circle) if name]
        if len(names) > NAMES_MAX:
            names[NAMES_MAX - 1 : -1] = [f"({len(names) - NAMES_MAX} more)"]
        path = " → ".join((*names, names[0]))
        return CallCycleError(
            f"request {self.request.root.id} waits for itself: {path}; break the circle"
            + (
                ""
                if any(isinstance(each, LockWait) for each in circle)
                else ", or raise concurrency= where it may wait more than once"
            ),
            circle=tuple(names),
            stream=self.replica.stream.name,
            operator=self.replica.name,
        )

    def run_again(self) -> bool:
        """Roll back and run again later. Return False when that was done too often, or the request has ended."""
        if self.parent is not None:
            return self.parent.run_again()
        if self.rerun:
            return True  # it is on its way already
        if self.worker is None or self.reruns >= self.host.limits.reruns or len(self.recorded) >= RECORDED_MAX:
            return False
        self.rerun = True
        # what it shares and wants for itself: next time it asks for that at once, or it would be in the way again
        self.exclusively = {*self.exclusively, *self.lock_waits}
        self.worker.cancel()
        return True

    def cancel(self) -> None:
        """Cancel what the user's code awaits; its clean-up runs, its effects are forgotten."""
        if self.worker is not None:
            self.worker.cancel()

    # -- the end

    def commit(self) -> None:
        """Let everything but `out` take effect (the replica hands that on, per envelope)."""
        host, request = self.host, self.request
        self.deferred = self.answered = False
        request.committed = True
        if len(self.effects) == 1 and (effect := self.effects[0])[0].__class__ is not Address:
            self.effects.clear()
            effect[0](self, effect[1])
            self.spawned.clear()
            return
        effects = self.effects[:]
        self.effects.clear()
        rounds = self.context.rounds if self.context is not None else ()
        last, told = None, []
        for target, item in effects:
            if target is last:
                told.append(item)
                continue
            if last is not None:
                host.tell(request, last, told, rounds)
                last = None
            if target.__class__ is Address:
                last, told = target, [item]
            else:
                target(self, item)
        if last is not None:
            host.tell(request, last, told, rounds)
        self.spawned.clear()

    def set_aside(self) -> tuple[Any, ...]:
        """Make room for another activation within this one; `resume` takes what this returns."""
        state = (
            self.replica, self.request, self.context, self.deferred, self.answered,
            self.out[:], self.back[:], self.effects[:], self.spawned[:], self.undo[:], self.key, self.keys,
        )  # fmt: skip
        for each in (self.out, self.back, self.effects, self.spawned, self.undo):
            each.clear()
        self.key, self.keys = NO_KEY, None
        return state

    def resume(self, state: tuple[Any, ...]) -> None:
        """Go on where `set_aside` was called."""
        self.replica, self.request, self.context, self.deferred, self.answered, *lists, self.key, self.keys = state
        self.out[:], self.back[:], self.effects[:], self.spawned[:], self.undo[:] = lists

    def forget_last(self) -> None:
        """Keep nothing alive while the host is idle."""
        self.key, self.keys = NO_KEY, None
        self.replica = self.request = self.context = None  # type: ignore[assignment] # set before user code runs

    def abort(self) -> None:
        """Forget everything, `out` and `back` included, and end the actors that it spawned."""
        self.out.clear()
        self.back.clear()
        self.forget()

    def forget(self) -> None:
        """Forget everything but `out` and `back`."""
        self.effects.clear()
        if self.undo:
            undo_in_place(self)
        if self.overlay:
            forget_overlay(self)
        for replica in self.spawned:
            replica.close(at_once=True)
        self.spawned.clear()
        self.deferred = self.answered = False


class Deferred:
    """A deferred answer: a hold of its request until `reply` or `fail`."""

    __slots__ = ("_context", "_done", "_hold", "_replica", "_request")

    def __init__(self, activation: Activation) -> None:
        self._replica = activation.replica
        self._request = activation.request
        self._context = activation.context
        self._hold = Hold(self._request, activation.replica.region_of(self._request))
        self._done = False

    def reply(self, value: Any) -> None:
        """Answer with a value. Raises: TypeError when it was answered before."""
        self._settle(_answer_later, value)

    def fail(self, error: Exception) -> None:
        """Answer with an error. Raises: TypeError when it was answered before."""
        self._settle(_fail_later, error)

    def _settle(self, how: Callable[[Activation | None, Any], None], value: Any) -> None:
        if self._done:
            raise TypeError("this deferred answer was given before: there is one")
        working = self._request.host.working_activation()
        if working is None:
            self._done = True
            how(None, (self, value))
        else:
            working.effects.append((how, (self, value)))

    def keep(self) -> None:
        """Become a hold: the activation that deferred has committed."""
        self._hold.take()

    def answer(self, value: Any) -> None:
        """Take effect: give the answer and the hold up."""
        request, context = self._request, self._context
        self._done = True
        if context is not None and context.ask is not None:
            context.ask.reply(value)
        elif not request.state:
            request.stream.reply(request, context, [value])
        self._hold.give_up()

    def refuse(self, error: Exception) -> None:
        """Take effect: give the error and the hold up."""
        request, context = self._request, self._context
        stream, operator = self._replica.stream.name, self._replica.name
        self._done = True
        given = (
            error
            if isinstance(error, ActorflowError)
            else activation_error(error, f"{stream}/{operator} answered with {type(error).__name__}: {error}")
        )
        if context is not None and context.ask is not None:
            context.ask.fail(given)
        else:
            request.fail(given)
        self._hold.give_up()

    def __del__(self) -> None:
        if self._hold.taken and not self._done and not self._request.state:
            stream, operator = self._replica.stream.name, self._replica.name
            error = DroppedReplyError(
                f"{stream}/{operator} deferred its answer and dropped it without reply() or fail()",
                stream=stream,
                operator=operator,
            )
            # the answer itself is going: what acts in its place shares its hold
            stand_in = object.__new__(Deferred)
            for name in Deferred.__slots__:
                setattr(stand_in, name, getattr(self, name))
            stand_in._done = True
            self._request.host.soon(stand_in.refuse, error)


# -- effects other than tells, each `(activation, argument)`


def _reply(activation: Activation, argument: tuple[Context | None, Any]) -> None:
    context, value = argument
    if context is not None and context.ask is not None:
        context.ask.reply(value)
    else:
        activation.request.stream.reply(activation.request, context, [value])


def _send(activation: Activation, argument: tuple[Any, Any]) -> None:
    wiring, item = argument
    activation.host.send(wiring, item)
    activation.wrote()


def _send_later(activation: Activation, argument: tuple[str, str, Any, float]) -> None:
    activation.host.delays.add(*argument)
    activation.wrote()


def _cancel_send(activation: Activation, ticket: str) -> None:
    activation.host.delays.cancel(ticket)
    activation.wrote()


def _vote(activation: Activation, argument: tuple[Any, Any]) -> None:
    gate, value = argument
    gate.vote(activation.request, value)


def _stop(activation: Activation, address: Address) -> None:
    replica = activation.host.actor(address)
    if replica is not None:
        replica.close()


def _after(activation: Activation, argument: tuple[Replica, Context | None, float, Any]) -> None:
    replica, context, delay_s, item = argument
    activation.host.timer(activation.request, replica, context, delay_s, item)


def _keep_spawned(activation: Activation, argument: None) -> None:
    """What was spawned stays: `commit` forgets that it could be undone."""


def _keep(activation: Activation, deferred: Deferred) -> None:
    deferred.keep()


def _answer_later(activation: Activation | None, argument: tuple[Deferred, Any]) -> None:
    deferred, value = argument
    deferred.answer(value)


def _fail_later(activation: Activation | None, argument: tuple[Deferred, Exception]) -> None:
    deferred, error = argument
    deferred.refuse(error)


def _outcome_of(child: Request) -> tuple[Any, ActorflowError | None]:
    """Return how a request has ended, in such a way that it can be asked for once more."""
    if child.error is not None:
        return None, child.error
    if child.replies is not None or child.value is UNSET:
        child.value, child.replies = child.answer_value(), None
    return child.value, None


def answer_before(children: list[tuple[str, Any, Request]], child: Request) -> Answer | None:
    """Return the answer of one of these requests, which is none of them any more."""
    for index, (stream, item, other) in enumerate(children):
        if other is child:
            del children[index]
            answer = Answer(stream, item, *_outcome_of(child))
            answer.used = False
            return answer
    return None


def tell_granted(locks: Locks[Any], granted: Iterable[tuple[Any, Any]]) -> None:
    """Tell those who hold a key now that they need not wait any more."""
    for owner, key in granted:
        owner.granted(locks, key)


def _waiter_name(waiter: Any) -> str:
    if isinstance(waiter, LockWait):
        return f"{waiter.entries.name}[{summary(waiter.key)}]"
    if isinstance(waiter, Activation):
        return f"{waiter.replica.stream.name}/{waiter.replica.name} (request {waiter.request.root.id})"
    return ""
