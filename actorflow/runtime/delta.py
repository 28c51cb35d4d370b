"""Delta iteration: one value per key and request, and what changes goes round."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from operator import length_hint
from typing import TYPE_CHECKING, Any

from actorflow.core.ordering import Ordered
from actorflow.envelope import Context, Frame, common_frames
from actorflow.errors import summary
from actorflow.plan.topology import Delta
from actorflow.runtime.gate import Delivery, Gate, Round, Turn
from actorflow.runtime.replica import FAILURES, IDLE, WAITING
from actorflow.runtime.request import UNSET, Request
from actorflow.runtime.turns import CROWD

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import Wiring


class _Best:
    """The values of keys of one request, and which of them have changed and wait to go round."""

    __slots__ = ("_frames", "best", "context", "line", "ordered", "waiting")

    def __init__(self, *, ordered: bool) -> None:
        self.best: dict[Any, Any] = {}
        self.waiting: set[Any] = set()
        self.line: deque[Any] = deque()
        self.ordered: Ordered[Any] | None = Ordered() if ordered else None
        self.context: Context | None = None  # the return stack that all pairs so far have in common
        self._frames: Frame | None = UNSET

    def note_frames(self, context: Context | None) -> None:
        """Keep of the return stack what these items have in common with those before."""
        frames = context.frames if context is not None else None
        if frames is not self._frames:
            self._frames = frames if self._frames is UNSET else common_frames(self._frames, frames)
            self.context = Context(self._frames) if self._frames is not None else None


class Improving(Turn):
    """A delta iteration: one value per key, and what changes goes round.

    Its gate ends once when nothing waits any more, or, with rounds, each time that a round is done.
    """

    __slots__ = ("_ahead", "_batch", "_combine", "_priority", "_synchronous", "_waiting", "at_work", "scheduled")

    def __init__(self, stream: Wiring, step: Delta, gate: Gate) -> None:
        super().__init__(stream, step, gate)
        self._combine = step.combine
        self._priority = step.priority
        self._synchronous = step.rounds is not None
        self._batch = stream.host.limits.batch_items
        self._ahead = self._batch if step.priority is None else step.ahead
        self._waiting: dict[Request, Round] = {}
        self.at_work: Request | None = None  # who pays when a turn fails
        self.scheduled = IDLE

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        assert self.gate is not None
        run = self.gate.begin(request)
        if run is None:
            return
        run.own.note_frames(context)
        self.receive_other(request, context, items)

    def prepare(self, run: Round) -> None:
        run.own = _Best(ordered=self._priority is not None and not self._synchronous)

    def receive_other(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Take proposals."""
        assert self.gate is not None
        run = self.gate.begin(request)
        if run is None:
            return
        own: _Best = run.own
        before, known = len(own.waiting), len(own.best)
        ahead = iter(items)
        while True:
            try:
                self._improve(own, ahead)
                break
            except FAILURES as error:
                failed = items[len(items) - length_hint(ahead) - 1]
                self.failed(None, request, context, failed, error if _is_pair(failed) else _no_pair(failed))
                if request.state:
                    break
        self.gate.grow(request, run, len(own.best) - known)
        if self._synchronous:
            return
        if request.state and request not in self._waiting:
            request.counts[self.region] -= before
            own.waiting.clear()
            return
        if more := len(own.waiting) - before:
            request.counts[self.region] += more
            if len(own.waiting) > CROWD and not request.bulk:
                request.grow(more, 0)
        if own.waiting and request not in self._waiting and not request.state:
            self._waiting[request] = run
            if not self.scheduled:
                self.scheduled = WAITING
                self.stream.host.enqueue_bulk(self)

    def _improve(self, own: _Best, ahead: Iterator[Any]) -> None:
        """Combine pairs into the values; a key whose value changes stands in line, once."""
        if own.ordered is not None:
            self._improve_ordered(own, own.ordered, ahead)
            return
        best, waiting, get = own.best, own.waiting, own.best.get
        note, line = waiting.add, own.line.append
        if self._combine is min:  # most do, and a comparison costs less than a call
            for key, value in ahead:
                old = get(key, own)
                if old is own or value < old:
                    best[key] = value
                    if key not in waiting:
                        line(key)
                        note(key)
            return
        combine = self._combine
        for key, value in ahead:
            old = get(key, own)
            if old is not own:
                value = combine(old, value)
                if value is old or value == old:
                    continue
            best[key] = value
            if key not in waiting:
                line(key)
                note(key)

    def _improve_ordered(self, own: _Best, ordered: Ordered[Any], ahead: Iterator[Any]) -> None:
        """Combine pairs; each change stands in line by its priority, and one before it is passed over then."""
        assert self._priority is not None
        best, waiting, get = own.best, own.waiting, own.best.get
        combine, priority, simple = self._combine, self._priority, self._combine is min
        for key, value in ahead:
            old = get(key, own)
            if old is not own:
                if simple:
                    if not value < old:
                        continue
                else:
                    value = combine(old, value)
                    if value is old or value == old:
                        continue
            ordered.push(priority((key, value)), key)  # first: what raises has changed nothing
            best[key] = value
            waiting.add(key)

    def run(self, host: Host) -> None:
        """Send some of the changes of the request whose turn it is round."""
        waiting = self._waiting
        request = self.at_work = next(iter(waiting))
        run = waiting.pop(request)
        own: _Best = run.own
        self.scheduled = IDLE
        try:
            if not request.state:
                self._send_round(request, run, own)
        finally:
            if request.state:
                request.counts[self.region] -= len(own.waiting)
                own.waiting.clear()
            elif own.waiting:
                waiting[request] = run
            if waiting and not self.scheduled:
                self.scheduled = WAITING
                host.enqueue_bulk(self)

    def _send_round(self, request: Request, run: Round, own: _Best) -> None:
        try:
            pairs = self._next(own)
        except FAILURES as error:
            request.fail(self.error_of(None, request, "the order of priorities", error))
            return
        run.round += 1
        self.back(request, own.context, pairs)
        request.release(self.region, len(pairs))

    def _next(self, own: _Best) -> list[Any]:
        """Take the pairs that go round next."""
        line, waiting, best, ordered = own.line, own.waiting, own.best, own.ordered
        if ordered is None:
            keys = [line.popleft() for _ in range(min(len(line), self._ahead))]
            waiting.difference_update(keys)
            return [(key, best[key]) for key in keys]
        pairs: list[Any] = []
        while len(ordered) and len(pairs) < self._ahead:
            key = ordered.pop()
            if key in waiting:
                waiting.discard(key)
                pairs.append((key, best[key]))
        return pairs

    def depth(self) -> int:
        """Return the number of requests whose changes wait here."""
        return len(self._waiting)

    def has_more(self, run: Round) -> bool:
        own: _Best = run.own
        return self._synchronous and bool(own.waiting)

    def waiting(self, run: Round) -> int:
        return len(run.own.waiting) if self._synchronous else 0

    def again(self, run: Round) -> list[Delivery]:
        own: _Best = run.own
        pairs = [(key, own.best[key]) for key in own.line]
        if self._priority is not None:
            pairs.sort(key=self._priority)
        own.line.clear()
        own.waiting.clear()
        return [(self.back, own.context, pairs)]

    def leave(self, run: Round) -> list[Delivery]:
        own: _Best = run.own
        context = own.context
        return [(self.hand_on, context, list(own.best.items())), *self._loop_end(run)]


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2


def _no_pair(item: Any) -> TypeError:
    return TypeError(f"a delta takes pairs (key, value), not {summary(item)}")
