"""Replicas whose `process` is a generator: pulled batch by batch, set aside between turns, parked when too far on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from actorflow.envelope import Context
from actorflow.errors import TooManyRepliesError
from actorflow.runtime.replica import BATCH, FAILURES, SLICE_S, Replica, without_newest
from actorflow.runtime.request import Request
from actorflow.runtime.worker import held_too_much


class GeneratorReplica(Replica):
    """A replica whose `process` is a generator: what it yields goes on batch by batch, as there is room."""

    __slots__ = ()

    def work(self, request: Request, context: Context | None, items: list[Any]) -> None:
        for index, item in enumerate(items):
            if request.state:
                break
            inner = context
            if context is not None and context.ask is not None:
                self._answer_all(request, context, item)
                continue
            if self.node.returns:
                inner = self.frames(context, item, request)
            if not self._pull(request, inner, item, iter(self.op.process(item)), items[index + 1 :]):
                self.finished(request, index)  # the item at hand and those after it are kept, and counted, as they are
                return
        self.finished(request, len(items))

    def go_on(self, request: Request, context: Context | None, items: list[Any], generator: Iterator[Any]) -> None:
        item, later = items[0], items[1:]
        if not self._pull(request, context, item, generator, later):
            return
        self.finished(request, 1)
        if later and not request.state:
            below = without_newest(context) if self.node.returns else context
            self.work(request, below, later)
        elif later:
            self.drop(request, context, later)

    def _pull(
        self, request: Request, context: Context | None, item: Any, generator: Iterator[Any], later: list[Any]
    ) -> bool:
        """Pull batches until the generator ends (True), or set it aside (False)."""
        host = self.host
        activation = host.activation
        out, effects = activation.out, activation.effects
        # one that may write commits once, at its end: all that it yields is held till then
        batch = host.limits.items_ahead + 1 if self.node.writes else host.limits.batch_items
        began = host.clock()
        while True:
            activation.request = request
            activation.context = context
            activation.replica = self
            try:
                # a batch passes through a list of its own, so that emits and yields keep their order
                pulled = 0
                more = False
                for value in islice(generator, batch):
                    pulled += 1
                    if value is not None:
                        out.append(value)
                    elif len(effects) > BATCH and not self.node.writes:
                        more = True  # a bare yield: let out what has been told
                        break
            except FAILURES as error:
                activation.abort()
                self.failed(request, without_newest(context) if self.node.returns else context, item, error)
                return True
            if pulled == batch and self.node.writes:
                activation.abort()
                host.close_generator(generator, self)
                self.failed(request, context, item, held_too_much(self))
                return True
            if activation.effects:
                activation.commit()
            if activation.back:
                activation.feed_back(context)
            if out and not request.state:
                self.hand_on(request, context, out, 1)
            out.clear()
            if pulled < batch and not more:
                return True
            if request.state:
                host.close_generator(generator, self)
                return True
            if (not self.node.loops and request.crowded()) or host.clock() - began > SLICE_S:
                self.set_aside(request, context, [item, *later], generator)
                return False

    def _answer_all(self, request: Request, context: Context, item: Any) -> None:
        """Answer an ask with the one value that the generator yields."""
        activation = self.host.activation
        activation.request, activation.context, activation.replica = request, context, self
        try:
            values = list(islice((value for value in self.op.process(item) if value is not None), 2))
            if len(values) > 1:
                raise TooManyRepliesError(f"{self.name} was asked once and yielded more than one answer")
        except FAILURES as error:
            activation.abort()
            self.failed(request, context, item, error)
            return
        answered = activation.answered or activation.deferred
        activation.deferred = activation.answered = False
        if activation.effects:
            activation.commit()
        if activation.back:
            activation.feed_back(without_newest(context))
        if activation.out:
            self.hand_on(request, without_newest(context), activation.out, 1)
        if not answered:
            context.ask.reply(values[0] if values else None)
