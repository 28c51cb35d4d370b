"""The way back: replies and errors pass through the operators that asked to see them, newest first.

These steps run outside the mailboxes, so that a reply never queues behind requests. While one runs it is counted as a
hold of its request; after the request's end the frames that are left are told in turn, within their own time.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from actorflow.core.locks import Locks
from actorflow.envelope import Context, Frame
from actorflow.errors import ActorflowError
from actorflow.plan.operator import Outcome, Retry
from actorflow.runtime.access import NO_KEY
from actorflow.runtime.activation import Activation, tell_granted
from actorflow.runtime.cells import ordered
from actorflow.runtime.request import Request
from actorflow.runtime.worker import view

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.replica import Replica
    from actorflow.runtime.waiting import Look
    from actorflow.runtime.wiring import OperatorNode


class ReturnStep:
    """One call of `on_reply`, and then the frame below."""

    __slots__ = ("_frame", "_keys", "_left", "_outcome", "_region", "_request", "_told")

    def __init__(self, request: Request, frame: Frame, outcome: Outcome, *, told: list[Frame] | None = None) -> None:
        self._request = request
        self._frame = frame
        self._outcome = outcome
        # the request has ended: nothing that comes of it goes anywhere, and these are told next, the newest last
        self._left = told
        self._told = told is not None
        self._keys: list[Any] | None = None  # in hand, or waited for, of an operator that owns cells
        self._region = frame.replica.region_of(request)
        if not self._told:
            request.counts[self._region] += 1

    @property
    def request(self) -> Request:
        """Return whose reply this is."""
        return self._request

    @property
    def frame(self) -> Frame:
        """Return where the reply is."""
        return self._frame

    @property
    def outcome(self) -> Outcome:
        """Return what comes back."""
        return self._outcome

    @property
    def told(self) -> bool:
        """Return whether the request has ended, and this only tells of it."""
        return self._told

    @property
    def replica(self) -> Replica:
        """Return whose `on_reply` this is."""
        replica: Replica = self._frame.replica
        return replica

    def run(self, host: Host) -> None:
        """Call `on_reply`: at once when it is a plain method, in a task of the host when it is async."""
        request, frame = self._request, self._frame
        if request.state and not self._told:
            self._leave_key()  # those that have not ended are told of the end, in their order
            self._consumed()
            return
        watcher: Any = frame.replica.op  # one that has `on_reply`: only those get here
        if inspect.iscoroutinefunction(watcher.on_reply):
            place = TaskPlace(self)
            activation = self._activation(Activation(host, place))
            place.activation = activation
            op = view(watcher, activation)
            name = f"{frame.replica.stream.name}/{frame.replica.name}/reply"
            host.run_task(self._run_async(host, op, activation, place), name)
            return
        if not self._take_key(host):
            return  # it is told when it has the key
        self._end_frame()
        activation = host.working = self._activation(host.activation)
        activation.key, activation.keys = self._in_hand()
        if frame.replica.node.kind == "async":
            watcher = view(watcher, activation)
        try:
            result = watcher.on_reply(self._outcome, frame.item)
        except Exception as error:
            activation.abort()
            self._leave_key()
            self._go_on(host, None, error)
        else:
            self._commit(activation)
            self._leave_key()
            self._go_on(host, result, None)

    def _take_key(self, host: Host) -> bool:
        """Take the key in hand of an operator that owns cells; return False when somebody else works on it."""
        node = self._frame.replica.node
        if node.owned is None:
            return True
        held = node.owned.locks.held
        try:
            if self._keys is None:
                self._keys = _keys_of(node, self._frame.item)
            waits = [key for key in self._keys if key in held and not node.owned.locks.ask(self, key)]
        except Exception as error:
            self._end_frame()
            self._leave_key()
            self._go_on(host, None, error)
            return False
        return not waits

    def _in_hand(self) -> tuple[Any, set[Any] | None]:
        if self._keys is None:
            return NO_KEY, None
        return (self._keys[0], None) if len(self._keys) == 1 else (NO_KEY, set(self._keys))

    def _end_frame(self) -> None:
        """Note that the reply has passed here: its request's end need not be told."""
        self._frame.done = True
        if self._request.details is not None:
            self._request.details.frames.pop(self._frame, None)

    def _leave_key(self) -> None:
        node = self._frame.replica.node
        if node.owned is not None:
            tell_granted(node.owned.locks, node.owned.locks.release(self))

    def needs(self, look: Look) -> list[list[Any]]:
        """Return who works on the key that this waits for."""
        locks = self._frame.replica.node.owned.locks
        return [[blocker] for owner, key in locks.wanted() if owner is self for blocker in locks.in_the_way(self, key)]

    def granted(self, locks: Locks[Any], key: Any) -> None:
        """Go on: the key is in hand."""
        self._frame.replica.host.enqueue(self)

    def _activation(self, activation: Activation) -> Activation:
        below = self._frame.below
        activation.replica = self._frame.replica
        activation.request = self._request
        activation.context = Context(below) if below is not None else None
        return activation

    async def _run_async(self, host: Host, op: Any, activation: Activation, place: TaskPlace) -> None:
        request = self._request
        task = place.task = asyncio.current_task()
        assert task is not None
        host.workers[task] = place
        request.more().own("activations")[activation] = None
        timeout_s = host.limits.unwind_timeout_s if self._told else None
        while True:
            result, failed = None, None
            try:
                async with asyncio.timeout(timeout_s):
                    await self._lock_keys(activation)
                    result = await op.on_reply(self._outcome, self._frame.item)
            except (Exception, asyncio.CancelledError) as error:
                failed = error
            if not activation.rerun or (request.state and not self._told):
                break
            # it was chosen to break a circle: it runs again, as any activation does
            activation.abort()
            activation.release_locks()
            activation.rerun, activation.reruns = False, activation.reruns + 1
            activation.recalled = 0
            for answer in activation.recorded:
                answer.used = False
            while task.cancelling():
                task.uncancel()
            await asyncio.sleep(0)
        host.workers.pop(task, None)
        request.more().activations.pop(activation, None)
        ended = request.state and not self._told and failed is not None
        if not ended:
            self._end_frame()  # else it is told of the end of its request, as if it had never begun
        if failed is not None:
            activation.abort()
        else:
            self._commit(activation)
        activation.release_locks()
        self._go_on(host, result, failed)

    async def _lock_keys(self, activation: Activation) -> None:
        node = self._frame.replica.node
        if node.owned is not None:
            self._keys = self._keys or _keys_of(node, self._frame.item)
            activation.key, activation.keys = self._in_hand()
            await activation.lock(node.owned, self._keys, shared=node.owned_shared)

    def _commit(self, activation: Activation) -> None:
        if activation.effects:
            activation.commit()
        if activation.out and not self._request.state:
            self._frame.replica.hand_on(self._request, activation.context, activation.out, 1)
        activation.out.clear()

    def _go_on(self, host: Host, result: Any, failed: BaseException | None) -> None:
        request, frame, below = self._request, self._frame, self._frame.below
        if self._told:
            if failed is not None and failed is not self._outcome.error:
                host.note_failure(frame.replica, request, frame.item, failed)
            if self._left:
                newest = self._left.pop()
                host.enqueue(ReturnStep(request, newest, self._outcome, told=self._left))
            return
        if request.state:
            self._consumed()
            return
        if failed is not None:
            error = failed if failed is self._outcome.error else frame.replica.node.error_of(
                frame.replica, request, frame.item, failed
            )  # fmt: skip
            assert isinstance(error, ActorflowError)
            if below is not None:
                host.enqueue(ReturnStep(request, below, Outcome(error=error)))
            else:
                request.fail(error)
        elif type(result) is Retry:
            context = Context(below) if below is not None else None
            frame.replica.put(request, context, [result.item])
        elif result is None and not self._outcome.ok:
            # an error that was looked at and not answered goes on
            assert self._outcome.error is not None
            if below is not None:
                host.enqueue(ReturnStep(request, below, self._outcome))
            else:
                request.fail(self._outcome.error)
        elif below is not None:
            host.enqueue(ReturnStep(request, below, Outcome(result)))
        else:
            request.deliver([result])
        self._consumed()

    def _consumed(self) -> None:
        request = self._request
        request.counts[self._region] -= 1
        if not request.counts[self._region]:
            request.settle()


def _keys_of(node: OperatorNode, item: Any) -> list[Any]:
    """Return the keys that an operator has in hand when a reply to an item, or to a batch of them, comes back."""
    assert node.key is not None
    return ordered({node.key(each) for each in item}) if node.batches else [node.key(item)]


class TaskPlace:
    """What stands for a worker while an async hook runs: it can be cancelled, and has an activation."""

    __slots__ = ("activation", "step", "task")

    def __init__(self, step: ReturnStep | None = None) -> None:
        self.step = step
        self.task: asyncio.Task[Any] | None = None
        self.activation: Activation | None = None

    def cancel(self) -> None:
        """Cancel the call."""
        if self.task is not None:
            self.task.cancel()
