"""Plain replicas whose operator owns cells: an item is worked on while nobody else has its key.

Where all who use a key are plain, nobody ever has one when a plain activation begins, and the lock of a key is one look
into an empty table. An item whose key somebody has (an activation that is suspended) waits in the queue for the key,
and what comes after it of the same request waits behind it: its order is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from actorflow.core.locks import Locks
from actorflow.envelope import Context
from actorflow.runtime.activation import tell_granted
from actorflow.runtime.asynchronous import look_for_circle, waiter_of
from actorflow.runtime.feeding import FeedingReplica
from actorflow.runtime.generating import GeneratorReplica
from actorflow.runtime.plain import BatchReplica, PlainReplica
from actorflow.runtime.replica import FAILURES, Replica
from actorflow.runtime.request import Request

if TYPE_CHECKING:
    from actorflow.plan.operator import Operator
    from actorflow.runtime.host import Host
    from actorflow.runtime.waiting import Look
    from actorflow.runtime.wiring import OperatorNode


class Claim:
    """Items of a request that wait, the first for its key, the others for the first."""

    __slots__ = ("at_work", "began_s", "key", "queue", "replica")

    def __init__(self, replica: Owning, request: Request, key: Any) -> None:
        self.replica = replica
        self.at_work = request
        self.key = key
        self.began_s = replica.host.now_s()
        self.queue: deque[tuple[Context | None, list[Any]]] = deque()

    def needs(self, look: Look) -> list[list[Any]]:
        """Return who works on the key: all of them must end."""
        return [[blocker] for blocker in self.replica.locks.in_the_way(self, self.key)]

    def granted(self, locks: Locks[Any], key: Any) -> None:
        """Take a turn: the key is in hand."""
        self.replica.host.enqueue(self)

    def run(self, host: Host) -> None:
        """Work on what has waited."""
        self.replica.go_on_with(self)

    def __call__(self) -> None:
        """Give up waiting, since the request has ended."""
        self.replica.give_up(self)


class Owning(Replica):
    """The part of a plain replica that sees to keys. claims: what waits, by request."""

    __slots__ = ("claims", "locks")
    suspends: ClassVar[bool] = True

    def __init__(self, host: Host, node: OperatorNode, op: Operator, index: int = 0) -> None:
        super().__init__(host, node, op, index)
        assert node.owned is not None
        self.locks: Locks[Any] = node.owned.locks
        self.claims: dict[Request, Claim] = {}

    def run(self, host: Host) -> None:
        Replica._run_all(self, host)

    take_now = Replica.take_plain

    def work(self, request: Request, context: Context | None, items: list[Any]) -> None:
        if self.claims and request in self.claims:
            self.claims[request].queue.append((context, items))
            return
        if self.node.batches:
            self._work_batch(request, context, items)
            return
        key_of, held, activation = self._key_of, self.locks.held, self.host.activation
        for index, item in enumerate(items):
            try:
                key = key_of(item)
                blocked = bool(held) and key in held
            except FAILURES as error:
                self.failed(request, context, item, error)
                self.finished(request, 1)
                continue
            if blocked and self._wait(request, context, items[index:], key):
                return
            activation.key, activation.keys = key, None
            super().work(request, context, [item])
            if request.state or self.paused:
                if index + 1 < len(items):
                    self._keep(request, context, items[index + 1 :])
                return

    def _work_batch(self, request: Request, context: Context | None, items: list[Any]) -> None:
        activation, held = self.host.activation, self.locks.held
        try:
            keys = {self._key_of(item) for item in items}
        except FAILURES as error:
            for item in items:
                self.failed(request, context, item, error)
                if request.state:
                    break
            self.finished(request, len(items))
            return
        for key in keys:
            if key in held and self._wait(request, context, items, key):
                return
        activation.keys = keys
        super().work(request, context, items)
        activation.keys = None

    @property
    def _key_of(self) -> Callable[[Any], Any]:
        assert self.node.key is not None
        return self.node.key

    def _keep(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Keep what a restart, or the end of its request, found unprocessed; it is counted as it was."""
        if request.state:
            self.drop(request, context, items)
        else:
            self.rest.append((request, context, items))

    def _wait(self, request: Request, context: Context | None, items: list[Any], key: Any) -> bool:
        """Let items wait for the key of the first of them; return False when it is in hand already."""
        if self.locks.held.get(key) is self.host.claim:
            return False
        claim = Claim(self, request, key)
        if self.locks.ask(claim, key):
            self.locks.release(claim)  # it was shared, and is not
            return False
        claim.queue.append((context, items))
        self.claims[request] = claim
        request.more().own("releases")[claim] = None
        look_for_circle(self.host, request, context, self.locks.holders(key))
        return True

    def go_on_with(self, claim: Claim) -> None:
        """Work on what has waited for a key, which is held until that is done."""
        request, host = claim.at_work, self.host
        if self.claims.get(request) is not claim:
            return  # the request has ended meanwhile
        del self.claims[request]
        request.more().releases.pop(claim, None)
        host.working, host.claim = host.activation, claim
        try:
            while claim.queue:
                context, items = claim.queue.popleft()
                if self.paused:
                    self.rest.extend((request, each, some) for each, some in reversed(claim.queue))
                    self.rest.append((request, context, items))
                    claim.queue.clear()
                elif request.state:
                    self.drop(request, context, items)
                else:
                    self.work(request, context, items)
                if request in self.claims:
                    self.claims[request].queue.extend(claim.queue)
                    claim.queue.clear()
        finally:
            host.claim = None
            tell_granted(self.locks, self.locks.release(claim))

    def give_up(self, claim: Claim) -> None:
        """Drop what waits of a request that has ended."""
        self.claims.pop(claim.at_work, None)
        tell_granted(self.locks, self.locks.release(claim))
        for context, items in claim.queue:
            self.drop(claim.at_work, context, items)
        claim.queue.clear()

    def waiting(self) -> Iterator[tuple[Request, Context | None, list[Any], Iterator[Any] | None]]:
        for request, claim in self.claims.items():
            for context, items in claim.queue:
                yield request, context, items, None
        yield from super().waiting()

    def who_waits(self) -> dict[Any, list[Any]]:
        waiting: dict[Any, list[Any]] = {}
        for request, claim in self.claims.items():
            for context, _ in claim.queue:
                waiting[waiter_of(request, context)] = waiting[request] = [claim]
        return waiting

    def depth(self) -> int:
        """Return the number of envelopes that wait here, for a turn or for a key."""
        return super().depth() + sum(len(claim.queue) for claim in self.claims.values())


class OwningPlain(Owning, PlainReplica):
    """A plain replica that owns cells."""

    __slots__ = ()

    def work(self, request: Request, context: Context | None, items: list[Any]) -> None:
        if self.node.returns or (context is not None and context.ask is not None) or self.claims:
            super().work(request, context, items)
            return
        host = self.host
        activation = host.activation
        activation.request = request
        activation.context = context
        activation.replica = self
        out, effects = activation.out, activation.effects
        process, key_of, held = self.op.process, self._key_of, self.locks.held
        done = 0
        for item in items:
            try:
                key = activation.key = key_of(item)
                if held and key in held:
                    break
                result = process(item)
            except FAILURES as error:
                activation.forget()
                self.failed(request, context, item, error)
                done += 1
                if request.state or self.paused:
                    break
                continue
            if effects:
                activation.commit()
            if result is not None:
                out.append(result)
            done += 1
        if out:
            if request.state:
                out.clear()
            else:
                self.hand_on(request, context, out, len(items))
        rest = items[done:]
        if done:
            self.finished(request, done)
        if rest:
            if request.state or self.paused:
                self._keep(request, context, rest)
            else:
                super().work(request, context, rest)


class OwningFeeding(Owning, FeedingReplica):
    """A plain replica with a feedback edge that owns cells."""

    __slots__ = ()


class OwningGenerator(Owning, GeneratorReplica):
    """A replica of generators that owns cells: each runs to its end in one go."""

    __slots__ = ()


class OwningBatch(Owning, BatchReplica):
    """A replica of batches that owns cells: all keys of a batch are in hand."""

    __slots__ = ()


OWNING: dict[type[Replica], type[Replica]] = {
    PlainReplica: OwningPlain,
    FeedingReplica: OwningFeeding,
    GeneratorReplica: OwningGenerator,
    BatchReplica: OwningBatch,
}
