"""Replicas whose `process`, or `process_batch`, is a plain function. The path of most messages: few operations each."""

from __future__ import annotations

from collections.abc import Iterable
from operator import length_hint
from typing import TYPE_CHECKING, Any

from actorflow.address import Address
from actorflow.envelope import Context
from actorflow.plan.operator import ItemError
from actorflow.runtime.replica import FAILURES, IDLE, NEXT, Replica, without_newest
from actorflow.runtime.request import Request

if TYPE_CHECKING:
    from actorflow.runtime.host import Host


class PlainReplica(Replica):
    """A replica whose `process` is a plain function: called straight from the host's run queue."""

    __slots__ = ()

    def run(self, host: Host) -> None:
        """Take a turn: a lone message on the short way, anything else as written in `_run_all`."""
        if self.paused:
            return
        quick = self.quick
        if len(quick) == 1 and not self.rest and not self.bulk and not self.node.returns:
            request, context, items = quick.pop()
            if context is None and len(items) == 1 and request.stream is self.stream and not request.state:
                self._pass_on(host, request, items[0])
                return
            quick.append((request, context, items))
        self._run_all(host)

    def _pass_on(self, host: Host, request: Request, item: Any) -> None:
        """Process a lone item; while what comes of it is one message for an idle actor, go on there at once.

        Nothing else is ready then, so the order is that of the run queue, without standing in it. A message that takes
        the place of another leaves all counts as they are. This is the path of messages between actors.
        """
        activation = host.working = host.activation
        activation.request = request
        activation.context = None
        out, effects, ready = activation.out, activation.effects, host.ready
        left = self.pace
        me: Replica = self
        while True:
            activation.replica = me
            me.done += 1
            try:
                result = me.op.process(item)
            except FAILURES as error:
                activation.abort()
                me.failed(request, None, item, error)
                break
            if len(effects) == 1 and result is None and not out and effects[0][0].__class__ is Address:
                address, told = effects[0]
                receiver: Replica | None = address.local
                if receiver is not None and receiver.place is me.place and not request.bulk:
                    effects.clear()
                    if not request.committed:
                        request.committed = True
                    if me.quick or me.bulk:
                        ready.append(me)
                    else:
                        me.scheduled = IDLE
                        if me.closing:
                            me._end()
                    left -= 1
                    if receiver.scheduled or ready or receiver.__class__ is not PlainReplica or receiver.paused:
                        receiver.tell_counted(request, [told])
                        return
                    receiver.scheduled = NEXT
                    me, item = receiver, told
                    if left <= 0 and not (left := self._new_pace(host.began, host.clock())):
                        me.scheduled = IDLE
                        me.tell_counted(request, [told])
                        return
                    continue
            if effects:
                activation.commit()
            if out:
                if result is not None:
                    out.append(result)
                me.hand_on(request, None, out, 1)
            elif result is not None:  # one item comes of one: `hand_on`, without what many items need
                if not request.committed:
                    request.committed = True
                me.node.hand_on(request, None, [result])
            break
        counts, region = request.counts, me.region
        counts[region] -= 1
        if not counts[region] and not request.state:
            request.settle()
        if request.bulk:
            request.relieve()
        if me.quick or me.bulk:
            me._run_all(host)
        else:  # `_leave_line`, which every ask would call
            me.scheduled = IDLE
            if me.closing:
                me._end()

    def _run_all(self, host: Host) -> None:
        """Work through the mailbox, with the envelope of one item, most of all, written out.

        A call per message would cost a fifth of it.
        """
        activation = host.working = host.activation
        activation.replica = self
        activation.context = None
        out, effects = activation.out, activation.effects
        process = self.op.process
        stream, region, plain = self.stream, self.region, not self.node.returns
        left = pace = self.pace
        while not self.paused:
            rest = self._swapped()
            while rest:
                request, context, items = rest.pop()
                count = len(items)
                if count == 1 and context is None and plain and not request.state and request.stream is stream:
                    activation.request = request
                    try:
                        result = process(items[0])
                    except FAILURES as error:
                        activation.abort()
                        self.failed(request, None, items[0], error)
                    else:
                        if effects:
                            activation.commit()
                        if result is not None:
                            out.append(result)
                        if out:
                            self.hand_on(request, None, out, 1)
                    self.done += 1
                    counts = request.counts
                    counts[region] -= 1
                    if not counts[region] and not request.state:
                        request.settle()
                    if request.bulk:
                        request.relieve()
                elif request.state:
                    self.drop(request, context, items)
                elif count > pace:
                    rest.append((request, context, items[pace:]))
                    count = pace
                    self.work(request, context, items[:pace])
                    activation.context = None
                else:
                    self.work(request, context, items)
                    activation.context = None
                left -= count
                if left <= 0:
                    pace = left = self._new_pace(host.began, host.clock())
                    if not pace:
                        self._yield_turn()
                        return
                if self.paused:
                    return
            # `_after_quick`, where nothing is in the bulk lane
            if self.bulk:
                if self._after_quick():
                    return
            elif not self.quick:
                self._leave_line()
                return

    def take_now(self, request: Request, context: Context | None, item: Any) -> None:
        if self.scheduled or self.paused or self.node.returns or request.stream is not self.stream:
            self.put(request, context, [item])
            return
        request.counts[self.region] += 1
        if context is None:
            self.scheduled = NEXT
            self._pass_on(self.host, request, item)
        else:
            self.host.working = self.host.activation
            self.work(request, context, [item])

    def work(self, request: Request, context: Context | None, items: list[Any]) -> None:
        if self.node.returns or (context is not None and context.ask is not None):
            for item in items:
                self._work_apart(request, context, item)
            self.finished(request, len(items))
            return
        host = self.host
        activation = host.activation
        activation.request = request
        activation.context = context
        activation.replica = self
        out = activation.out
        effects = activation.effects
        process = self.op.process
        ahead = iter(items)
        mark = 0
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
                break
            except FAILURES as error:
                # the iterator knows which item it was, so the loop need not count
                failed = items[len(items) - length_hint(ahead) - 1]
                del out[mark:]
                activation.forget()
                self.failed(request, context, failed, error)
                if request.state or self.paused:
                    self._set_back(request, ahead, context)
                    if request.state:
                        out.clear()
                    break
        if out:
            self.hand_on(request, context, out, len(items))
        self.finished(request, len(items))

    def _set_back(self, request: Request, ahead: Iterable[Any], context: Context | None) -> None:
        """Keep the items that a restart found unprocessed (they are counted anew, since the envelope is done)."""
        if not request.state and (left := list(ahead)):
            request.counts[self.region_of(request)] += len(left)
            self.rest.append((request, context, left))

    def _work_apart(self, request: Request, context: Context | None, item: Any) -> None:
        """Process one item that is asked for, or whose reply comes back through here."""
        if request.state:
            return
        activation = self.host.activation
        activation.request = request
        activation.context = context
        activation.replica = self
        before = context
        ask = context.ask if context is not None else None
        if self.node.returns and ask is None:
            context = self.frames(context, item, request)
        try:
            result = self.op.process(item)
        except FAILURES as error:
            activation.abort()
            if context is not before:
                self.forget_frame(request, context)  # nothing was done that it could want to undo
            self.failed(request, before, item, error)
            return
        if ask is None and result is not None:
            activation.out.append(result)
        answered = activation.answered or activation.deferred
        activation.deferred = activation.answered = False
        if activation.effects:
            activation.commit()
        if activation.back:
            activation.feed_back(without_newest(context))
        if activation.out:
            self.hand_on(request, context if ask is None else without_newest(context), activation.out, 1)
        if ask is not None and not answered:
            ask.reply(result)


class BatchReplica(Replica):
    """A replica whose `process_batch` takes the items of an envelope as one activation."""

    __slots__ = ()

    def work(self, request: Request, context: Context | None, items: list[Any]) -> None:
        activation = self.host.activation
        activation.request = request
        activation.context = context
        activation.replica = self
        out = activation.out
        before = context
        ask = context.ask if context is not None else None
        if self.node.returns and ask is None:
            context = self.frames(context, items, request)
        try:
            results = self.op.process_batch(items)  # type: ignore[attr-defined] # checked before start
            results = [] if results is None else list(results)
        except FAILURES as error:
            activation.abort()
            if context is not before:
                self.forget_frame(request, context)
            for item in items:
                self.failed(request, before, item, error)
                if request.state:
                    break
            self.finished(request, len(items))
            return
        fine = [result for result in results if type(result) is not ItemError and result is not None]
        answered = activation.answered or activation.deferred
        activation.deferred = activation.answered = False
        if activation.effects:
            activation.commit()
        if activation.back:
            activation.feed_back(context if ask is None else without_newest(context))
        for item, result in zip(items, results, strict=False):
            if type(result) is ItemError and not request.state:
                self.failed(request, before, item, result.error)
        if ask is not None:
            if not answered:
                ask.reply(fine[0] if fine else None)
        else:
            out.extend(fine)
        if out and not request.state:
            self.hand_on(request, context if ask is None else without_newest(context), out, len(items))
        out.clear()
        self.finished(request, len(items))
