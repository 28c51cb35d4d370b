"""Plain replicas whose mailbox is ordered by a priority: of what waits, the smallest is processed first."""

from __future__ import annotations

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

Waiting = tuple[Context | None, Any]


class OrderedReplica(FeedingReplica):
    """A plain replica that takes the item with the smallest priority first; equal ones in order of arrival.

    lines: what waits, per request; requests take turns.
    """

    __slots__ = ("_priority", "lines")

    def __init__(self, host: Host, node: OperatorNode, op: Operator, index: int = 0) -> None:
        super().__init__(host, node, op, index)
        assert node.priority is not None
        self._priority = node.priority
        self.lines: dict[Request, Ordered[Waiting]] = {}

    def put(self, request: Request, context: Context | None, items: list[Any]) -> None:
        request.counts[self.region] += len(items)
        line = self.lines.get(request)
        if line is None:
            line = self.lines[request] = Ordered()
        push, priority = line.push, self._priority
        refused: list[tuple[Any, BaseException]] = []
        for item in items:
            try:
                push(priority(item), (context, item))
            except FAILURES as error:  # it cannot be told, or not be compared with the others
                refused.append((item, error))
        if len(line) > self.node.mailbox_envelopes:
            self._refuse(request)
        if not self.scheduled:
            if request.bulk:
                self.schedule_bulk()
            else:
                self.schedule()
        for item, why in refused:
            if not request.state:
                self.failed(request, context, item, why)
            self.finished(request, 1)

    def tell(self, request: Request, items: list[Any]) -> None:
        self.put(request, None, items)

    def take_now(self, request: Request, context: Context | None, item: Any) -> None:
        self.put(request, context, [item])

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
            while len(line) and turn and not request.state and not self.paused:
                try:
                    context, item = line.pop()
                except FAILURES as error:
                    request.fail(self.node.error_of(self, request, "the order of priorities", error))
                    break
                self.work(request, context, [item])
                turn -= 1
                left -= 1
                if left <= 0:
                    left = self._new_pace(host.began, host.clock())
                    if not left:
                        self._stand_again(request)
                        return
            if not len(line):
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
