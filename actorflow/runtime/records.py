"""What is kept of a request that is not finished, so that it can go on after a restart.

Of a request of which nothing has taken effect yet, its items are enough: it is begun again. Of any other the whole tree
of requests below it is written down as it stands between two turns: envelopes in mailboxes, activations under way with
the answers they have received and the keys they hold, folds, open calls, timers, replies on their way back. What is
found is compared with what is counted. Some things live in memory alone (actors, deferred answers, synchronous loops
under way, items still coming in); a request that has written and has any of these is lost with its host, and says so.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from actorflow import codec
from actorflow.envelope import Context, Frame
from actorflow.errors import CodecError
from actorflow.plan.operator import Outcome
from actorflow.runtime.activation import Activation, Again, LockWait
from actorflow.runtime.request import UNSET, Hold, Request
from actorflow.runtime.return_path import ReturnStep, TaskPlace
from actorflow.runtime.steps import Calling, Folding, Joining
from actorflow.runtime.steps import OpenCalls as Calls
from actorflow.runtime.worker import Worker

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.replica import Replica
    from actorflow.runtime.wiring import OperatorNode, Wiring

    _Part: TypeAlias = tuple[OperatorNode, Replica, Again | tuple[Context | None, list[Any], Iterator[Any] | None]]

VERSION = 1


class MemoryOnlyError(Exception):
    """A part of a request cannot be written down: it says which."""


class Parts:
    """Where the parts of requests are, as a host stands between two turns: one pass over its mailboxes finds all."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiting: dict[Wiring, dict[Request, list[_Part]]] = {}
        self._passing: dict[Request, list[ReturnStep]] | None = None

    def waiting(self, request: Request) -> list[_Part]:
        """Return what waits in mailboxes for a request: its items, and its activations that are to be run again."""
        found = self._waiting.get(request.stream)
        if found is None:
            found = self._waiting[request.stream] = collections.defaultdict(list)
            for node in request.stream.operators():
                for replica in node.replicas:
                    for owner, context, items, generator in replica.waiting():
                        found[owner].append((node, replica, (context, items, generator)))
                    for again in replica.rerunning():
                        found[again.request].append((node, replica, again))
        return found.get(request, [])

    def passing(self, request: Request) -> list[ReturnStep]:
        """Return the replies of a request that are between two operators on their way back."""
        if self._passing is None:
            self._passing = collections.defaultdict(list)
            for step in self._host.passing():
                self._passing[step.request].append(step)
        return self._passing.get(request, [])


def record_of(host: Host, parts: Parts, request: Request, items: list[Any], *, written: bool) -> bytes:
    """Return the record of a request that is not finished."""
    details = request.more()
    record: dict[str, Any] = {
        "version": VERSION,
        "stream": request.stream.name,
        "key": details.key,
        "digest": details.digest,
        "timeout_s": request.timeout_s,
        "deadline_s": host.wall_s() + request.deadline_s - host.now_s(),
        "attributes": dict(details.attributes),
        "sent": details.sent,
    }
    if written:
        try:
            return codec.encode(
                {**record, "shape": request.stream.shape, "tree": _Tree(host, parts, request).written()}
            )
        except MemoryOnlyError as error:
            record["lost"] = str(error)
        except CodecError as error:
            record["lost"] = f"something of it has no form that can be kept: {error}"
    try:
        return codec.encode({**record, "items": items})
    except CodecError as error:
        return codec.encode({**record, "items": [], "lost": f"its items cannot be kept: {error}"})


class _Tree:
    """Writes a request down with all that are open below it. Frames are numbered, since folds compare them."""

    def __init__(self, host: Host, parts: Parts, root: Request) -> None:
        self._host = host
        self._parts = parts
        self._requests: list[Request] = [root]
        self._frames: dict[Frame, int] = {}
        self._frame_rows: list[list[Any]] = []
        self._acts: dict[Activation | Again, int] = {}

    def written(self) -> dict[str, Any]:
        rows = []
        for request in self._requests:  # grows while it is walked: children follow their parents
            details = request.details
            if details is not None:
                self._requests += details.children
            rows.append(self._request(request))
        return {"requests": rows, "frames": self._frame_rows}

    def _request(self, request: Request) -> dict[str, Any]:
        details = request.more()
        self._refuse_memory(request)
        work: list[Any] = []
        found = 0
        for node, replica, part in self._parts.waiting(request):
            if isinstance(part, Again):
                self._acts[part] = len(work)
                work.append(self._activation_row(node.number, replica.index, part))
                found += len(part.item) if node.batches else 1
                continue
            context, items, generator = part
            if generator is not None:
                raise MemoryOnlyError(f"a generator of {node.name} is under way")
            work.append(["items", node.number, replica.index, self._context(context), list(items)])
            found += len(items)
        for activation in details.activations:
            if isinstance(activation.worker, Worker):
                if activation.parent is None:
                    replica = activation.replica
                    self._acts[activation] = len(work)
                    work.append(self._activation_row(replica.node.number, replica.index, activation))
                    found += len(activation.item) if replica.node.batches else 1
            elif isinstance(activation.worker, TaskPlace) and activation.worker.step is not None:
                work.append(self._return_row(activation.worker.step))
                found += 1
            else:
                raise MemoryOnlyError("a hook of an operator is under way")
        for step in self._parts.passing(request):
            if not step.told:
                work.append(self._return_row(step))
                found += 1
        for timer in details.timers:
            work.append(["timer", *self._timer(timer)])
            found += 1
        for number, state in details.folds.items():
            row, counted = self._fold(request, number, state)
            work.append(row)
            found += counted
        if found != sum(request.counts):
            raise MemoryOnlyError(f"{sum(request.counts)} items or holds are counted, and {found} were found")
        return {
            "stream": request.stream.name,
            "parent": self._requests.index(request.parent) if request.parent in self._requests else None,
            "caller": self._acts.get(request.caller) if request.caller is not None else None,
            "asked": details.asked if request.caller is not None else None,
            "committed": request.committed,
            "answered": request.answered,
            "value": [] if request.value is UNSET else [request.value],
            "values": request.replies.peek() if request.replies is not None else None,
            "work": work,
        }

    def _refuse_memory(self, request: Request) -> None:
        details = request.more()
        if details.actors:
            raise MemoryOnlyError("it has actors")
        if details.input is not None and details.input.taken:
            raise MemoryOnlyError("its items were still coming in")
        for release in details.releases:
            if isinstance(release, Hold):
                raise MemoryOnlyError("it has deferred an answer")
        if request.replies is not None and request.replies.streamed:
            raise MemoryOnlyError("its replies were being streamed to a reader")

    def _context(self, context: Context | None) -> Any:
        if context is None:
            return None
        if context.ask is not None:
            raise MemoryOnlyError("it asks an actor")
        return [self._frame(context.frames), list(context.rounds)]

    def _frame(self, frame: Frame | None) -> int | None:
        """Return the number of a frame; it is written once, after the frame below it."""
        missing: list[Frame] = []
        while frame is not None and frame not in self._frames:
            missing.append(frame)
            frame = frame.below
        for each in reversed(missing):
            self._frames[each] = len(self._frame_rows)
            below = None if each.below is None else self._frames[each.below]
            self._frame_rows.append([each.replica.node.number, each.replica.index, each.item, below, each.done])
        if missing:
            return self._frames[missing[0]]
        return None if frame is None else self._frames[frame]

    def _activation_row(self, number: int, index: int, activation: Any) -> list[Any]:
        """Return an activation under way, or one that is to be run again: from its item, with what it was answered."""
        recorded = []
        for answer in activation.recorded:
            if not isinstance(answer.asked, str):
                raise MemoryOnlyError("it asks an actor")
            recorded.append([answer.asked, answer.item, answer.value, answer.error])
        if isinstance(activation, Activation) and any(
            not isinstance(waited, (Request, LockWait, Activation)) for waited in activation.waiting
        ):
            raise MemoryOnlyError("it asks an actor")
        held = []
        if isinstance(activation, Again):
            names = {id(locks): name for name, locks in self._host.spaces.items()}
            held = [[names[id(locks)], key, shared] for locks, key, shared in activation.held]
        for locks in activation.locked if isinstance(activation, Activation) else ():
            space = next(name for name, each in self._host.spaces.items() if each is locks)
            held += [[space, key, not locks.is_exclusive(activation, key)] for key in locks.keys_of(activation)]
        return [
            "activation", number, index, self._context(activation.context), self._context(activation.onward),
            activation.item, recorded, activation.handed, activation.fed, activation.reruns, held,
            list(activation.given) if activation.given is not None else None,
        ]  # fmt: skip

    def _return_row(self, step: ReturnStep) -> list[Any]:
        outcome: Outcome = step.outcome
        return ["return", self._frame(step.frame), outcome.value, outcome.error]

    def _timer(self, timer: Any) -> list[Any]:
        replica, context, due_s, item = timer.about
        if replica.address is not None:
            raise MemoryOnlyError("it has actors")
        due_wall_s = self._host.wall_s() + due_s - self._host.now_s()
        return [replica.node.number, replica.index, self._context(context), due_wall_s, item]

    def _fold(self, request: Request, number: int, state: Any) -> tuple[list[Any], int]:
        node = request.stream.nodes[number]
        if isinstance(node, Folding):
            frames = state.frames
            mark = "unset" if frames is UNSET else self._frame(frames)
            held = request.progress is not None and number in request.progress.holders
            return ["fold", number, _kept(state.value), mark, held], int(held)
        if isinstance(node, Joining):
            held = request.progress is not None and number in request.progress.holders
            return ["join", number, [state[0], state[1], state[2]], held], int(held)
        if isinstance(node, Calling):
            return self._calls(number, state)
        raise MemoryOnlyError(f"a loop is under way at {node.name}")

    def _calls(self, number: int, calls: Calls) -> tuple[list[Any], int]:
        places: dict[int, int] = {}
        results: list[list[Any]] = []
        for context, place in calls.results:
            places[id(place)] = len(results)
            results.append([self._context(context), [] if place[0] is UNSET else [list(place[0])]])
        waiting = [
            [self._context(context), item, places.get(id(place))] for context, item, place in calls.waiting
        ]  # fmt: skip
        open_calls = []
        for child, (context, item, place) in calls.children.items():
            open_calls.append([self._requests.index(child), self._context(context), item, places.get(id(place))])
        return ["calls", number, results, waiting, open_calls], calls.open + len(calls.waiting)


def _kept(value: Any) -> Any:
    """Return a fold's state in a form that can be kept; see `restored`."""
    if type(value) is collections.Counter:
        return {"fold": "counter", "value": dict(value)}
    if type(value) is collections.defaultdict:
        return {"fold": "dict", "value": dict(value)}
    if type(value) is collections.deque:
        return {"fold": "deque", "value": list(value)}
    return {"fold": "", "value": value}


def restored(kept: dict[str, Any]) -> Any:
    """Return a fold's state as it was."""
    value = kept["value"]
    if kept["fold"] == "counter":
        return collections.Counter(value)
    if kept["fold"] == "deque":
        return collections.deque(value)
    return value
