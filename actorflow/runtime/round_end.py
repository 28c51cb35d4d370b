"""The end of a round at an operator: `on_round_end` is called at each replica, outside the mailboxes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from actorflow.runtime.activation import Activation
from actorflow.runtime.replica import FAILURES, Replica
from actorflow.runtime.request import Request
from actorflow.runtime.return_path import TaskPlace
from actorflow.runtime.worker import view

if TYPE_CHECKING:
    from actorflow.runtime.wiring import OperatorNode


def end_round(node: OperatorNode, request: Request) -> bool:
    """Call `on_round_end` at each replica of an operator; return False when some of the calls go on in tasks."""
    host = node.stream.host
    assert node.gate is not None
    run = node.gate.run_of(request)
    assert run is not None
    number = run.round
    if node.ends_rounds_async:
        pending = _Pending(node, request, len(node.replicas))
        for replica in node.replicas:
            name = f"{node.stream.name}/{replica.name}/round end"
            host.run_task(_end_async(pending, replica, number), name)
        return False
    activation, working = host.activation, host.working
    # rounds end where the last item of one is consumed: within the turn of a replica, which goes on afterwards
    outer = activation.set_aside()
    host.working = activation
    try:
        _end_at_each(node, request, activation, number)
    finally:
        host.working = working
        activation.resume(outer)
    return True


def _end_at_each(node: OperatorNode, request: Request, activation: Activation, number: int) -> None:
    activation.request, activation.context = request, None
    out, back, effects = activation.out, activation.back, activation.effects
    for replica in node.replicas:
        activation.replica = replica
        op: Any = replica.op if node.kind != "async" else view(replica.op, activation)
        try:
            result = op.on_round_end(number)
        except FAILURES as error:
            activation.abort()
            request.fail(node.error_of(replica, request, f"the end of round {number}", error))
            break
        if result is not None:
            out.append(result)
        if effects or out or back:
            _commit(activation, replica)
            if request.state:
                break


def _commit(activation: Activation, replica: Replica) -> None:
    """Let take effect what was done at the end of a round."""
    request = activation.request
    if activation.effects:
        activation.commit()
    if activation.back:
        activation.feed_back(None)
    if activation.out and not request.state:
        replica.hand_on(request, None, activation.out, 0)
    activation.out.clear()


async def _end_async(pending: _Pending, replica: Replica, number: int) -> None:
    request, node = pending.request, pending.node
    host, place = node.stream.host, TaskPlace()
    activation = place.activation = Activation(host, place)
    activation.replica, activation.request = replica, request
    task = place.task = asyncio.current_task()
    assert task is not None
    host.workers[task] = place
    failed: BaseException | None = None
    try:
        if not request.state:
            request.more().own("activations")[activation] = None
            result = await view(replica.op, activation).on_round_end(number)  # type: ignore[attr-defined]
            if result is not None:
                activation.out.append(result)
    except FAILURES as error:
        failed = error
    finally:
        host.workers.pop(task, None)
        request.more().activations.pop(activation, None)
    if request.state:
        activation.abort()
        activation.release_locks()
    elif failed is not None:
        activation.abort()
        activation.release_locks()
        request.fail(node.error_of(replica, request, f"the end of round {number}", failed))
    else:
        _commit(activation, replica)
        activation.release_locks()
    pending.done()


class _Pending:
    """The calls that go on in tasks: the operator's hold is given up when all are done, or with the request."""

    __slots__ = ("count", "node", "request")

    def __init__(self, node: OperatorNode, request: Request, count: int) -> None:
        self.node = node
        self.request = request
        self.count = count
        request.more().own("releases")[self._forget] = None

    def done(self) -> None:
        """Note that one call is done."""
        self.count -= 1
        request = self.request
        if not self.count and not request.state:
            request.more().releases.pop(self._forget, None)
            request.release(self.node.stream.regions.out[self.node.number])
            request.settle()

    def _forget(self) -> None:
        self.request.counts[self.node.stream.regions.out[self.node.number]] -= 1
