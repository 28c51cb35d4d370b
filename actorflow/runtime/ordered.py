"""Plain replicas whose mailbox is ordered by a priority: of what waits, the smallest is processed first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from actorflow.core.ordering import Ordered
from actorflow.envelope import Context
from actorflow.runtime.feeding import FeedingReplica
from actorflow.runtime.replica import BATCH, FAILURES
from actorflow.runtime.request import Request

if TYPE_CHECKING:
    from actorflow.plan.operator import Operator
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import OperatorNode


class _Line:
    """What waits of one request: in order, and what has come since, to be put in order before anything is taken."""

    __slots__ = ("arrived", "ordered")

    def __init__(self) -> None:
        self.ordered: Ordered[tuple[Context | None, Any]] = Ordered()
        self.arrived: deque[tuple[Context | None, list[Any]]] = deque()

    def __len__(self) -> int:
        return len(self.ordered) + sum(len(items) for _, items in self.arrived)


class OrderedReplica(FeedingReplica):
    """A plain replica that takes the item with the smallest priority first; equal ones in order of arrival.

    lines: what waits, per request; requests take turns.
    """

    __slots__ = ("_priority", "lines")

    def __init__(self, host: Host, node: OperatorNode, op: Operator, index: int = 0) -> None:
        super().__init__(host, node, op, index)
        assert node.priority is not None
        self._priority = node.priority
        self.lines: dict[Request, _Line] = {}

    def put(self, request: Request, context: Context | None, items: list[Any]) -> None:
        request.counts[self.region] += len(items)
        line = self.lines.get(request)
        if line is None:
            line = self.lines[request] = _Line()
        line.arrived.extend((context, items[start : start + BATCH]) for start in range(0, len(items), BATCH))
        if not self.scheduled:
            if request.bulk:
                self.schedule_bulk()
            else:
                self.schedule()

    def tell(self, request: Request, items: list[Any]) -> None:
        self.put(request, None, items)

    def take_now(self, request: Request, context: Context | None, item: Any) -> None:
        self.put(request, context, [item])

    def _put_in_order(self, request: Request, line: _Line) -> None:
        """Put one envelope that has arrived in order; an item whose priority cannot be told or compared fails."""
        context, items = line.arrived.popleft()
        push, priority = line.ordered.push, self._priority
        for item in items:
            try:
                push(priority(item), (context, item))
            except FAILURES as error:
                if not request.state:
                    self.failed(request, context, item, error)
                self.finished(request, 1)
        if len(line.ordered) > self.node.mailbox_envelopes:
            self._refuse(request)

    def run(self, host: Host) -> None:
        host.working = host.activation
        left = self.pace
        lines = self.lines
        while lines and not self.paused:
            request = next(iter(lines))
            line = lines.pop(request)
            if request.state:
                request.counts[self.region] -= len(line)
                continue
            lines[request] = line  # behind the others; what is fed back joins it
            turn = BATCH if len(lines) == 1 else 16
            while turn and not request.state and not self.paused:
                if line.arrived:
                    turn -= 1
                    left -= len(line.arrived[0][1])
                    self._put_in_order(request, line)
                elif len(line.ordered):
                    try:
                        context, item = line.ordered.pop()
                    except FAILURES as error:
                        request.fail(self.node.error_of(self, request, "the order of priorities", error))
                        break
                    self.work(request, context, [item])
                    turn -= 1
                    left -= 1
                else:
                    break
                if left <= 0:
                    left = self._new_pace(host.began, host.clock())
                    if not left:
                        self._stand_again(request)
                        return
            if not line.arrived and not len(line.ordered):
                lines.pop(request, None)
        self._leave_line()

    def _stand_again(self, request: Request) -> None:
        if not len(self.lines[request]):
            del self.lines[request]
        if not self.lines:
            self._leave_line()
        elif any(not each.bulk for each in self.lines):
            self.schedule()
        else:
            self.schedule_bulk()

    def depth(self) -> int:
        return super().depth() + sum(map(len, self.lines.values()))

    def _set_back(self, request: Request, ahead: Any, context: Context | None = None) -> None:
        if not request.state and (left := list(ahead)):
            self.put(request, context, left)
