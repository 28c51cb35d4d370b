"""Plain replicas whose mailbox is ordered by a priority: of what waits, the smallest is processed first."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from actorflow.envelope import Context
from actorflow.runtime.feeding import FeedingReplica
from actorflow.runtime.replica import BATCH, FAILURES
from actorflow.runtime.request import Request

if TYPE_CHECKING:
    from actorflow.plan.operator import Operator
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import OperatorNode

Waiting = tuple[Any, int, Context | None, Any]


class OrderedReplica(FeedingReplica):
    """A plain replica that takes the item with the smallest priority first; equal ones in order of arrival.

    heaps: what waits, per request; requests take turns.
    """

    __slots__ = ("_count", "_priority", "heaps")

    def __init__(self, host: Host, node: OperatorNode, op: Operator, index: int = 0) -> None:
        super().__init__(host, node, op, index)
        assert node.priority is not None
        self._priority = node.priority
        self._count = 0
        self.heaps: dict[Request, list[Waiting]] = {}

    def put(self, request: Request, context: Context | None, items: list[Any]) -> None:
        request.counts[self.region] += len(items)
        heap = self.heaps.get(request)
        if heap is None:
            heap = self.heaps[request] = []
        priority = self._priority
        for item in items:
            self._count += 1
            try:
                heappush(heap, (priority(item), self._count, context, item))
            except FAILURES as error:
                self._refuse_item(request, heap, context, item, error)
                if request.state:
                    break
        if len(heap) > self.node.mailbox_envelopes:
            self._refuse(request)
        if not self.scheduled:
            if request.bulk:
                self.schedule_bulk()
            else:
                self.schedule()

    def _refuse_item(
        self, request: Request, heap: list[Waiting], context: Context | None, item: Any, error: BaseException
    ) -> None:
        """Fail an item whose priority cannot be told, or not be compared with the others."""
        heap[:] = [each for each in heap if each[3] is not item]
        heapify(heap)
        self.failed(request, context, item, error)
        self.finished(request, 1)

    def tell(self, request: Request, items: list[Any]) -> None:
        self.put(request, None, items)

    def take_now(self, request: Request, context: Context | None, item: Any) -> None:
        self.put(request, context, [item])

    def run(self, host: Host) -> None:
        host.working = host.activation
        left = self.pace
        heaps = self.heaps
        while heaps and not self.paused:
            request = next(iter(heaps))
            heap = heaps.pop(request)
            if request.state:
                request.counts[self.region] -= len(heap)
                continue
            heaps[request] = heap  # behind the others; what is fed back joins it
            turn = BATCH if len(heaps) == 1 else 16
            while heap and turn and not request.state and not self.paused:
                _, _, context, item = heappop(heap)
                self.work(request, context, [item])
                turn -= 1
                left -= 1
                if left <= 0:
                    left = self._new_pace(host.began, host.clock())
                    if not left:
                        self._stand_again(request)
                        return
            if not heap:
                heaps.pop(request, None)
        self._leave_line()

    def _stand_again(self, request: Request) -> None:
        if not self.heaps[request]:
            del self.heaps[request]
        if not self.heaps:
            self._leave_line()
        elif any(not each.bulk for each in self.heaps):
            self.schedule()
        else:
            self.schedule_bulk()

    def depth(self) -> int:
        return super().depth() + sum(map(len, self.heaps.values()))

    def _set_back(self, request: Request, ahead: Any, context: Context | None = None) -> None:
        if not request.state and (left := list(ahead)):
            self.put(request, context, left)
