"""Supervisors start replicas, restart them as `core.supervision` decides, and escalate."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

from actorflow.core.supervision import Escalate, FailureRate, RestartThese, Supervision
from actorflow.errors import ReplicaFailedError
from actorflow.plan.operator import Operator, Restart
from actorflow.runtime.activation import Activation
from actorflow.runtime.asynchronous import AsyncReplica
from actorflow.runtime.pulse import pulse_of
from actorflow.runtime.replica import Replica

if TYPE_CHECKING:
    from actorflow.runtime.host import Host
    from actorflow.runtime.wiring import Wiring

log = logging.getLogger("actorflow.supervisor")


class Supervisor:
    """The supervisor of a stream's replicas, or of one actor (then `wiring` is None)."""

    def __init__(self, host: Host, replicas: list[Replica], policy: Restart, wiring: Wiring | None) -> None:
        self._host = host
        self._replicas = replicas
        self._wiring = wiring
        self._decisions = Supervision(policy)
        self._restarting: set[int] = set()
        for index, replica in enumerate(replicas):
            replica.supervisor = self
            own = _policy_of(replica)
            # a replica whose operator has a policy of its own is decided about by that alone
            decisions = Supervision(own) if own is not None else self._decisions
            replica.failures = (index, FailureRate(own or policy), decisions)

    async def start(self) -> None:
        """Run the `start` hooks in order; a failing one is tried again as declared.

        Raises: ReplicaFailedError when that does not help.
        """
        for replica in self._replicas:
            while True:
                try:
                    await _start(replica, replica.op)
                    break
                except Exception as error:
                    decision = self._decide(replica)
                    if isinstance(decision, Escalate):
                        raise self._failure(replica, error, decision) from error
                    log.warning("%s could not start (%s: %s); trying again", _place(replica), _kind(error), error)
                    await asyncio.sleep(decision.after_s)
                    replica.op = replica.node.make()

    async def stop(self) -> None:
        """Run the `stop` hooks, last replica first; what they raise is logged."""
        for replica in reversed(self._replicas):
            try:
                await _hook(replica.op, "stop")
            except Exception:
                log.exception("%s raised in stop()", _place(replica))

    def activation_failed(self, replica: Replica, cause: BaseException) -> None:
        """Restart the replica when the error says that it is at fault, or when errors come too often."""
        index, rate, _ = replica.failures
        escalated = isinstance(cause, replica.op.escalate)
        if (rate.exceeded(self._host.now_s()) or escalated) and index not in self._restarting:
            self._restart(replica, cause)

    def _decide(self, replica: Replica) -> RestartThese | Escalate:
        index, _, decisions = replica.failures
        decision: RestartThese | Escalate = decisions.failed(index, range(len(self._replicas)), self._host.now_s())
        return decision

    def _restart(self, replica: Replica, cause: BaseException) -> None:
        decision = self._decide(replica)
        if isinstance(decision, Escalate):
            self._escalate(replica, cause, decision)
            return
        chosen = [self._replicas[index] for index in decision.indexes]
        self._restarting.update(decision.indexes)
        for each in chosen:
            pulse_of(each).restarts += 1
            each.pause()
            if isinstance(each, AsyncReplica):
                for worker in list(each.working):
                    worker.activation.rerun = not worker.stepping
                    worker.cancel()
        log.warning(
            "restarting %s in %.2g s: %s raised %s: %s",
            ", ".join(map(_place, chosen)), decision.after_s, _place(replica), _kind(cause), cause,
        )  # fmt: skip
        self._host.run_task(self._carry_out(chosen, decision), f"restart of {_place(replica)}")

    async def _carry_out(self, chosen: list[Replica], decision: RestartThese) -> None:
        await asyncio.sleep(decision.after_s)
        for replica in chosen:
            try:
                await _hook(replica.op, "stop")
            except Exception:
                log.exception("%s raised in stop()", _place(replica))
        for replica in chosen:
            if replica.closing or self._host.stopping:
                continue
            while True:
                try:
                    op = replica.node.make()
                    await _start(replica, op)
                    break
                except Exception as error:
                    again = self._decide(replica)
                    if isinstance(again, Escalate):
                        self._restarting.difference_update(decision.indexes)
                        self._escalate(replica, error, again)
                        return
                    log.warning("%s could not start (%s: %s); trying again", _place(replica), _kind(error), error)
                    await asyncio.sleep(again.after_s)
            replica.op = op
            if isinstance(replica, AsyncReplica):
                replica.retire_idle()
        self._restarting.difference_update(decision.indexes)
        for replica in chosen:
            replica.resume()

    def _escalate(self, replica: Replica, cause: BaseException, decision: Escalate) -> None:
        error = self._failure(replica, cause, decision)
        log.error("%s", error)
        if self._wiring is None:
            if replica.owner is not None:
                replica.owner.fail(error)
            replica.close(at_once=True)
            return
        self._host.fail_stream(self._wiring, error)
        for each in self._replicas:
            each.pause()
        self._host.run_task(self._revive(), f"revival of {self._wiring.name}")

    async def _revive(self) -> None:
        """After the longest pause, start the whole stream anew; until that works it refuses requests."""
        assert self._wiring is not None
        while not self._host.stopping:
            await asyncio.sleep(self._decisions.policy.backoff_max_s)
            try:
                for replica in self._replicas:
                    replica.op = replica.node.make()
                await self.start()
            except Exception as error:
                log.warning("stream %s is still down: %s", self._wiring.name, error)
                continue
            self._wiring.failed = None
            self._restarting.clear()
            for replica in self._replicas:
                if isinstance(replica, AsyncReplica):
                    replica.retire_idle()
                replica.resume()
            return

    def _failure(self, replica: Replica, cause: BaseException, decision: Escalate) -> ReplicaFailedError:
        return ReplicaFailedError(
            f"{_place(replica)} on host {self._host.name} failed again after {decision.restarts} restarts "
            f"within {decision.within_s:g} s: {_kind(cause)}: {cause}",
            stream=replica.stream.name,
            operator=replica.node.name,
            replica=replica.name,
            host=self._host.name,
            cause_type=_kind(cause),
            cause_text=str(cause),
        )


def _policy_of(replica: Replica) -> Restart | None:
    step = replica.stream.topology.steps[replica.node.number]
    own: Restart | None = getattr(step, "restart", None) if replica.address is None else None
    return own or replica.op.restart


def needs_supervisor(operator: type[Operator]) -> bool:
    """Return whether an actor of this class can ever be restarted, or must be started at all."""
    declares = operator.restart is not None or bool(operator.escalate)
    return declares or hasattr(operator, "start")


async def _start(replica: Replica, op: Operator) -> None:
    """Run the `start` hook with an activation of its own: an actor's works for the request that spawned it."""
    hook = getattr(op, "start", None)
    if hook is None:
        return
    host = replica.host
    activation = Activation(host, _NoTask())
    activation.replica = replica
    if replica.owner is not None:
        activation.request = replica.owner
    op._activation = activation
    for verb in ("emit", "tell", "feedback", *host.accesses(type(op))):
        vars(op).pop(verb, None)  # those of the host are for activations of its run queue
    try:
        await _hook(op, "start")
        if replica.owner is None:
            if activation.effects or activation.out or activation.back:
                activation.abort()
                raise TypeError("start() works for no request: it can neither emit, tell, send, reply nor write state")
        elif not replica.owner.state:
            activation.commit()
            if activation.back:
                activation.feed_back(None)
            if activation.out:
                replica.hand_on(replica.owner, None, activation.out, 0)
    finally:
        activation.release_locks()
        host.bind(op, replica.node.kind, feeds=replica.node.feeds)


class _NoTask:
    """What stands for a worker in a start hook, which may await but is not cancelled with any request."""

    def cancel(self) -> None:
        """Nothing to cancel."""


async def _hook(op: Any, name: str) -> None:
    hook = getattr(op, name, None)
    if hook is not None:
        result = hook()
        if inspect.isawaitable(result):
            await result


def _place(replica: Replica) -> str:
    return f"{replica.stream.name}/{replica.name}"


def _kind(error: BaseException) -> str:
    return type(error).__name__
