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
        if not self.paused:
            Replica._run_all(self, host)

    def take_now(self, request: Request, context: Context | None, item: Any) -> None:
        if self.scheduled or self.paused or request.stream is not self.stream:
            self.put(request, context, [item])
            return
        request.counts[self.region] += 1
        self.host.working = self.host.activation
        self.work(request, context, [item])

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
