"""Plain replicas whose operator feeds items back: two outboxes instead of one, the same walk through the mailbox."""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any

from actorflow.envelope import Context
from actorflow.runtime.plain import PlainReplica
from actorflow.runtime.replica import FAILURES, Replica
from actorflow.runtime.request import Request

if TYPE_CHECKING:
    from actorflow.runtime.host import Host


class FeedingReplica(PlainReplica):
    """A plain replica with a feedback edge. What goes back and what goes on leave together, in this order."""

    __slots__ = ()

    def run(self, host: Host) -> None:
        """Take a turn: while there is one item, which goes round, its trips are written out; else as in `_run_all`."""
        if self.paused:
            return
        quick = self.quick
        if len(quick) == 1 and not self.rest and not self.bulk:
            request, context, items = quick[0]
            lone = len(items) == 1 and not request.state and request.stream is self.stream
            if lone and (context is None or context.ask is None) and not self._go_round(host, request):
                return
        Replica._run_all(self, host)

    def _go_round(self, host: Host, request: Request) -> bool:
        """Process a lone item as often as it comes back; return whether there is more to do in this turn."""
        activation = host.working = host.activation
        activation.request = request
        activation.replica = self
        out, back, effects = activation.out, activation.back, activation.effects
        process, feed, region, counts = self.op.process, self.node.feed, self.region, request.counts
        assert feed is not None
        left = self.pace
        quick = self.quick
        while True:
            _, context, items = quick.pop()
            activation.context = context
            try:
                result = process(items[0])
            except FAILURES as error:
                activation.abort()
                self.failed(request, context, items[0], error)
            else:
                if effects:
                    activation.commit()
                if back:
                    request.committed = True
                    items = back[:]
                    back.clear()
                    feed(request, context, items)
                if result is not None:
                    out.append(result)
                if out:
                    self.hand_on(request, context, out, 1)
            counts[region] -= 1
            if not counts[region] and not request.state:
                request.settle()
            if request.bulk:
                request.relieve()
            left -= 1
            if left <= 0 and not (left := self._new_pace(host.began, host.clock())):
                self._yield_turn()
                return False
            quick = self.quick
            if len(quick) != 1 or self.bulk or self.paused or request.state:
                return True
            following, context, items = quick[0]
            if following is not request or len(items) != 1 or (context is not None and context.ask is not None):
                return True

    take_now = Replica.take_plain

    def work(self, request: Request, context: Context | None, items: list[Any]) -> None:
        if context is not None and context.ask is not None:
            super().work(request, context, items)
            return
        host = self.host
        activation = host.activation
        activation.request = request
        activation.context = context
        activation.replica = self
        out, back, effects = activation.out, activation.back, activation.effects
        process = self.op.process
        ahead = iter(items)
        mark = turned = 0
        while True:
            try:
                for item in ahead:
                    result = process(item)
                    if result is not None:
                        out.append(result)
                    if effects:
                        activation.commit()
                    if out:
                        mark = len(out)
                    if back:
                        turned = len(back)
                break
            except FAILURES as error:
                failed = items[len(items) - length_hint(ahead) - 1]
                del out[mark:], back[turned:]
                activation.forget()
                self.failed(request, context, failed, error)
                if request.state or self.paused:
                    self._set_back(request, ahead, context)
                    if request.state:
                        out.clear()
                        back.clear()
                    break
        if back:
            activation.feed_back(context)
        if out and not request.state:
            self.hand_on(request, context, out, len(items))
        out.clear()
        self.finished(request, len(items))
