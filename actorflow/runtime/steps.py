"""Steps that need no mailbox: they run in the turn of whoever hands them items, and keep their state in the request.

Each has `put(request, context, items)`, which takes the list over. What stays behind (a fold's state, calls that are
open) is counted as a hold or as items; what goes straight through is not counted at all, since the activation that
handed it on is counted until after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from actorflow import codec
from actorflow.envelope import Context, Frame, common_frames
from actorflow.errors import ActorflowError, ItemBudgetError, activation_error, cause_text, summary
from actorflow.plan.folds import Fold, Partial
from actorflow.plan.operator import ItemFailure, OnError
from actorflow.plan.topology import CallStream, Function, Gathering, Join, Route, Step
from actorflow.runtime.replica import FAILURES, WAITING
from actorflow.runtime.request import UNSET, Request

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import Wiring

Put = Callable[[Request, Context | None, list[Any]], None]


class Node:
    """A step of a running stream. `hand_on` is the `put` of what follows: one attribute read per envelope."""

    __slots__ = ("errors_to", "hand_on", "name", "number", "on_error", "put", "stream")

    def __init__(self, stream: Wiring, step: Step) -> None:
        self.stream = stream
        self.number = step.number
        self.name = step.name
        self.on_error: OnError = stream.topology.on_error
        self.hand_on: Put = nowhere
        self.errors_to: Put | None = None
        self.put: Put = self.receive

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Take items over."""
        raise NotImplementedError

    def finish(self, request: Request) -> bool:
        """Act on the end of input; return False when there is more to come of it later."""
        raise NotImplementedError

    def begin(self, request: Request) -> None:
        """Prepare for a request (only for folds that have a result without any item)."""

    def error_of(self, replica: Any, request: Request, item: Any, cause: BaseException) -> ActorflowError:
        """Return what a failed item's error says: where, on what, and why."""
        name = replica.name if replica is not None else self.name
        host = self.stream.host.name
        while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
            cause = cause.exceptions[0]  # a TaskGroup with one failed task: that one is the reason
        first = cause if isinstance(cause, ActorflowError) else None
        text = cause_text(cause)
        # through many levels of calls the innermost error is told, and how deep it was, not every level in between
        levels, why = getattr(cause, "origin", (0, text if first is not None else f"{type(cause).__name__}: {text}"))
        deep = f", {levels} calls deep" if levels > 1 else ""
        return activation_error(
            cause,
            f"{self.stream.name}/{name} on host {host} failed on {summary(item)}{deep}: {why}",
            origin=(levels + 1, why),
            stream=self.stream.name,
            operator=self.name,
            replica=name,
            host=host,
            item=summary(item),
            request_id=request.id,
            cause_type=(first.cause_type if first is not None else None) or type(cause).__name__,
            cause_text=(first.cause_text if first is not None else None) or text,
        )

    def failed(self, replica: Any, request: Request, context: Context | None, item: Any, cause: BaseException) -> None:
        """Do with a failed item what is declared: fail the request, set the item aside, or take the error edge."""
        error = self.error_of(replica, request, item, cause)
        if request.answered or self.on_error == "set_aside":
            actor = replica if replica is not None and replica.address is not None else None
            self.stream.host.dead_letters.add(request, error, node=self, item=item, actor=actor)
        elif self.on_error == "edge" and self.errors_to is not None:
            self.errors_to(request, context, [ItemFailure(item, error)])
        elif context is not None and context.frames is not None:
            self.stream.host.send_back(request, context.frames, error=error)
        else:
            request.fail(error)


def nowhere(request: Request, context: Context | None, items: list[Any]) -> None:
    """Let items end here."""


class Fused(Node):
    """A chain of stateless functions, composed of C iterators: a batch costs the functions and one list."""

    __slots__ = ("_follow", "_functions")

    def __init__(self, stream: Wiring, functions: list[Function], follow: Put) -> None:
        super().__init__(stream, functions[-1])
        self._functions = functions
        self._follow = follow

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        limit = self.stream.host.limits.items_per_request
        ahead = iter(items)
        try:
            made = list(islice(self._flow(ahead), limit))
            if len(made) < limit and len(ahead.__reduce__()) == 3:  # (iter, (items,), index): not run out
                raise RuntimeError("a function raised StopIteration, which ends a flow as if there were no more items")
        except FAILURES:
            made = self._one_by_one(request, context, items)
        if len(made) > 64:
            request.grow(len(made), len(items))
            if len(made) == limit and not request.state:
                request.fail(
                    ItemBudgetError(
                        f"{self.stream.name}/{self.name} makes {limit} or more items at once; make it a generator "
                        "function, which is pulled batch by batch, or raise Limits(items_per_request=…)",
                        stream=self.stream.name,
                        operator=self.name,
                    )
                )
        if made and not request.state:
            self._follow(request, context, made)

    def _flow(self, flow: Iterator[Any]) -> Iterator[Any]:
        for function in self._functions:
            if function.shape == "map":
                flow = map(function.call, flow)
            elif function.shape == "filter":
                flow = filter(function.call, flow)
            else:
                flow = chain.from_iterable(map(function.call, flow))
        return flow

    def _one_by_one(self, request: Request, context: Context | None, items: list[Any]) -> list[Any]:
        """Apply the chain again, item by item: one of them fails, and only that one may."""
        made: list[Any] = []
        for item in items:
            try:
                made.extend(self._apply(item))
            except FAILURES as error:
                self.failed(None, request, context, item, error)
                if request.state:
                    return []
        return made

    def _apply(self, item: Any) -> list[Any]:
        """Apply the chain to one item, without the iterators that a StopIteration would end."""
        items = [item]
        for function in self._functions:
            call = function.call
            if function.shape == "map":
                items = [call(each) for each in items]
            elif function.shape == "filter":
                items = [each for each in items if call(each)]
            else:
                items = [part for each in items for part in call(each)]
        return items


class Pass(Node):
    """Items go through: a merge, or a point from which several steps follow."""

    __slots__ = ()

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        self.hand_on(request, context, items)


class Router(Node):
    """Each item leaves by one of several outputs."""

    __slots__ = ("_choose", "outputs")

    def __init__(self, stream: Wiring, step: Route) -> None:
        super().__init__(stream, step)
        self._choose = step.choose
        self.outputs: dict[str, Put] = {}

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        chosen: dict[Any, list[Any]] = {}
        for item in items:
            try:
                output = self._choose(item)
                if output not in self.outputs:
                    raise ValueError(f"chose {summary(output)}, but the outputs are {', '.join(self.outputs)}")
            except FAILURES as error:
                self.failed(None, request, context, item, error)
                if request.state:
                    return
            else:
                chosen.setdefault(output, []).append(item)
        for output, some in chosen.items():
            if not request.state:
                self.outputs[output](request, context, some)


class Replying(Node):
    """What arrives here is a reply."""

    __slots__ = ("_once",)

    def __init__(self, stream: Wiring, step: Step) -> None:
        super().__init__(stream, step)
        self._once = stream.replies == "one" and not stream.early

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        if context is not None and context.frames is not None:
            for item in items:
                self.stream.host.send_back(request, context.frames, value=item)
        elif self._once and len(items) == 1 and request.value is UNSET:
            request.value = items[0]  # the common case, without a call
        else:
            request.deliver(items)


class Gathered:
    """A fold's state for one request: the value, and the return stack that all items so far have in common."""

    __slots__ = ("frames", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.frames: Frame | None = UNSET


class Folding(Node):
    """A fold over the items of a request."""

    __slots__ = ("fold",)

    def __init__(self, stream: Wiring, step: Step, fold: Fold) -> None:
        super().__init__(stream, step)
        self.fold = fold

    def begin(self, request: Request) -> None:
        self._state(request)

    def _state(self, request: Request) -> Gathered | None:
        """Return the state of a request, made when first asked for; None when that failed, or the request has ended."""
        if request.cancelled:
            return None
        folds = request.more().own("folds")
        state: Gathered | None = folds.get(self.number)
        if state is None:
            try:
                state = folds[self.number] = Gathered(self.fold.begin())
            except FAILURES as error:
                request.fail(self.error_of(None, request, "the beginning of input", error))
                return None
            if request.progress is not None and self.number in self.stream.regions.upstream:
                request.progress.hold(self.number)  # one that lets items pass in a loop has no end to wait for
        return state

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        details = request.details
        state = details.folds.get(self.number) if details is not None else None
        if state is None and (state := self._state(request)) is None:
            return
        frames = context.frames if context is not None else None
        if frames is not state.frames:
            state.frames = frames if state.frames is UNSET else common_frames(state.frames, frames)
        while True:
            try:
                out = self.fold.add(state.value, items)
                break
            except Partial as stopped:
                failed, items = items[stopped.index], items[stopped.index + 1 :]
                self.failed(None, request, context, failed, stopped.__cause__ or stopped)
                if request.state:
                    return
        if out:
            self.hand_on(request, context, out)

    def finish(self, request: Request) -> bool:
        assert request.details is not None
        state: Gathered = request.details.folds.pop(self.number)
        context = Context(state.frames) if state.frames is not None and state.frames is not UNSET else None
        return emit_all(self, request, context, lambda: iter(self.fold.end(state.value)))


class Joining(Node):
    """Pairs of items of two inputs that have the same key."""

    __slots__ = ("_how", "_left_key", "_right_key")

    def __init__(self, stream: Wiring, step: Join) -> None:
        super().__init__(stream, step)
        self._left_key = step.left_key
        self._right_key = step.right_key
        self._how: Gathering = step.how

    @property
    def holds(self) -> bool:
        """Return whether something may come at the end of input."""
        return self._how != "inner"

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        self._take(request, context, items, right=False)

    def receive_other(self, request: Request, context: Context | None, items: list[Any]) -> None:
        """Take items of the right input."""
        self._take(request, context, items, right=True)

    def forget(self, request: Request, *, right: bool) -> None:
        """Forget the items of one side: those of a loop's last round."""
        state = request.details.folds.get(self.number) if request.details is not None else None
        if state is not None:
            state[1 if right else 0].clear()

    def _take(self, request: Request, context: Context | None, items: list[Any], *, right: bool) -> None:
        if request.cancelled:
            return
        folds = request.more().own("folds")
        state = folds.get(self.number)
        if state is None:
            # per side: key -> items, and the keys that have met a partner
            state = folds[self.number] = ({}, {}, set())
            if self.holds:
                assert request.progress is not None
                request.progress.hold(self.number)
        mine: dict[Any, list[Any]] = state[1] if right else state[0]
        others: dict[Any, list[Any]] = state[0] if right else state[1]
        key_of = self._right_key if right else self._left_key
        out: list[Any] = []
        for item in items:
            try:
                key = key_of(item)
                mine.setdefault(key, []).append(item)
            except FAILURES as error:
                self.failed(None, request, context, item, error)
                if request.state:
                    return
                continue
            if partners := others.get(key):
                state[2].add(key)
                out.extend((other, item) if right else (item, other) for other in partners)
        if out:
            self.hand_on(request, context, out)

    def finish(self, request: Request) -> bool:
        assert request.details is not None
        left, right, met = request.details.folds.pop(self.number)

        def loners() -> Iterator[Any]:
            for key, items in left.items():
                if key not in met:
                    yield from ((item, None) for item in items)
            if self._how == "outer":
                for key, items in right.items():
                    if key not in met:
                        yield from ((None, item) for item in items)

        return emit_all(self, request, None, loners)


class Emission:
    """The result of a fold that is too large for one turn: handed on in slices, paused while there is too much."""

    __slots__ = ("_context", "_node", "_request", "_results", "scheduled")

    def __init__(self, node: Node, request: Request, context: Context | None, results: Iterator[Any]) -> None:
        self._node = node
        self._request = request
        self._context = context
        self._results = results
        self.scheduled = WAITING

    def run(self, host: Host) -> None:
        """Hand on one slice."""
        request = self._request
        if request.state:
            return  # the hold was given up with the request
        if request.crowded():
            waiting = host.loop.create_future()
            waiting.add_done_callback(lambda _: self._again(host))
            request.more().own("feeds")[waiting] = None
            return
        some = list(islice(self._results, host.limits.batch_items))
        if some:
            self._node.hand_on(request, self._context, some)
            self._again(host)
        else:
            request.more().releases.pop(self._forget, None)
            request.release(self._node.stream.regions.out[self._node.number])

    def _again(self, host: Host) -> None:
        self.scheduled = WAITING
        host.enqueue_bulk(self)

    def hold(self) -> Emission:
        """Give up the hold when the request ends."""
        self._request.more().own("releases")[self._forget] = None
        return self

    def _forget(self) -> None:
        self._request.counts[self._node.stream.regions.out[self._node.number]] -= 1


def emit_all(node: Node, request: Request, context: Context | None, results: Callable[[], Iterator[Any]]) -> bool:
    """Hand on what a fold amounts to: at once when it is little (True), else slice by slice (False)."""
    host = node.stream.host
    try:
        ahead = results()
        some = list(islice(ahead, host.limits.batch_items))
    except FAILURES as error:
        request.fail(node.error_of(None, request, "the end of input", error))
        return True
    if some:
        if len(some) == host.limits.batch_items:
            request.grow(len(some), len(some))
        node.hand_on(request, context, some)
    if len(some) < host.limits.batch_items or request.state:
        return True
    host.enqueue_bulk(Emission(node, request, context, ahead).hold())
    return False


class OpenCalls:
    """The child requests of one request at one call step. A place is where a result will be, for those in order."""

    __slots__ = ("children", "open", "results", "waiting")

    def __init__(self) -> None:
        self.open = 0
        self.children: dict[Request, tuple[Context | None, Any, list[Any]]] = {}
        self.waiting: deque[tuple[Context | None, Any, list[Any]]] = deque()
        self.results: deque[tuple[Context | None, list[Any]]] = deque()


class Calling(Node):
    """A child request per item; replies go on, in the order of the items unless that is not wanted."""

    __slots__ = ("_concurrency", "_ordered", "_target", "region")

    def __init__(self, stream: Wiring, step: CallStream) -> None:
        super().__init__(stream, step)
        self._target = step.stream
        self._concurrency = step.concurrency
        self._ordered = step.ordered
        self.region = stream.regions.into[step.number]

    def receive(self, request: Request, context: Context | None, items: list[Any]) -> None:
        if request.state:
            return
        calls = self.calls_of(request)
        request.counts[self.region] += len(items)
        for item in items:
            place: list[Any] = [UNSET]
            if self._ordered:
                calls.results.append((context, place))
            calls.waiting.append((context, item, place))
        self._go_on(request, calls)

    def calls_of(self, request: Request) -> OpenCalls:
        """Return the open calls of a request here, made when first asked for."""
        details = request.more()
        calls: OpenCalls | None = details.folds.get(self.number)
        if calls is None:
            calls = details.own("folds")[self.number] = OpenCalls()
            details.own("releases")[partial(self._forget, request, calls)] = None
        return calls

    def adopt(
        self, request: Request, calls: OpenCalls, child: Request, context: Context | None, item: Any, place: list[Any]
    ) -> None:
        """Take a child request as one that was made here."""
        calls.open += 1
        child.on_end = self._ender(request, calls, context, item, place)
        calls.children[child] = (context, item, place)

    def _ender(
        self, request: Request, calls: OpenCalls, context: Context | None, item: Any, place: list[Any]
    ) -> Callable[[Request], None]:
        def ended(child: Request) -> None:
            calls.open -= 1
            calls.children.pop(child, None)
            self._take(request, calls, context, item, place, child)

        return ended

    def _go_on(self, request: Request, calls: OpenCalls) -> None:
        host = self.stream.host
        while calls.waiting and calls.open < self._concurrency and not request.state:
            context, item, place = calls.waiting.popleft()
            calls.open += 1
            try:
                wiring = host.stream(self._target)
                child = host.call_for(
                    request, wiring, wiring.checked(item), self._ender(request, calls, context, item, place)
                )
                if not child.state:
                    calls.children[child] = (context, item, place)
            except ActorflowError as error:
                calls.open -= 1
                place[0] = ()
                self.failed(None, request, context, item, error)
                self._emit(request, calls)
                self._consumed(request)

    def _take(
        self, request: Request, calls: OpenCalls, context: Context | None, item: Any, place: list[Any], child: Request
    ) -> None:
        if request.state:
            request.counts[self.region] -= 1
            return
        if child.error is not None:
            place[0] = ()
            self.failed(None, request, context, item, child.error)
        elif child.replies is not None:
            place[0] = child.replies.take()
        else:
            place[0] = () if child.value is UNSET else (child.value,)
        if self._ordered:
            self._emit(request, calls)
        elif place[0] and not request.state:
            self.hand_on(request, context, list(place[0]))
        self._consumed(request)
        if calls.waiting and not request.state:
            self._go_on(request, calls)

    def _emit(self, request: Request, calls: OpenCalls) -> None:
        while calls.results and calls.results[0][1][0] is not UNSET:
            context, place = calls.results.popleft()
            if place[0] and not request.state:
                self.hand_on(request, context, list(place[0]))

    def _consumed(self, request: Request) -> None:
        request.counts[self.region] -= 1
        if not request.counts[self.region]:
            request.settle()
        if request.bulk:
            request.relieve()

    def _forget(self, request: Request, calls: OpenCalls) -> None:
        """Stop counting what has not been called when the request ends."""
        request.counts[self.region] -= len(calls.waiting)
        calls.waiting.clear()


def fan_out(targets: list[Put]) -> Put:
    """Return a `put` that hands items to several targets; each but the last receives copies of what is mutable."""
    if not targets:
        return nowhere
    if len(targets) == 1:
        return targets[0]
    *others, last = targets

    def put(request: Request, context: Context | None, items: list[Any]) -> None:
        for target in others:
            target(request, context, [codec.copy_if_mutable(item) for item in items])
            if request.state:
                return
        last(request, context, items)

    return put


def through_codec(put: Put) -> Put:
    """Return a `put` that hands items on as they would arrive on another host."""

    def strict(request: Request, context: Context | None, items: list[Any]) -> None:
        try:
            items = [codec.handed_over(item) for item in items]
        except ActorflowError as error:
            stream = request.stream.name
            request.fail(activation_error(error, f"{stream}: an item cannot travel: {error}", stream=stream))
        else:
            put(request, context, items)

    return strict
