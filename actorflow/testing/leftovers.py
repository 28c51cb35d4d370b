"""Is anything left on a host that should be idle?"""

from __future__ import annotations

from actorflow.runtime.delta import Improving
from actorflow.runtime.host import Host
from actorflow.runtime.request import Request
from actorflow.runtime.turns import QueuedFeeding


class LeftoverError(AssertionError):
    """Something is left on a host whose requests have all ended. `found` lists it."""

    def __init__(self, found: list[str]) -> None:
        super().__init__("left on the host: " + "; ".join(found))
        self.found = found


def check_nothing_left(host: Host, ended: list[Request] | None = None) -> None:
    """Check that no request, actor, envelope, activation, lock or lane entry is left, and that all counts are zero.

    ended: requests whose counts are looked at too.   Raises: LeftoverError naming everything that was found.
    """
    found = [f"request {request.id} of {request.stream.name}" for request in host.requests.values()]
    found += [f"actor {replica.name}" for replica in host.actors.values() if replica.owner is not None]
    if host.in_flight:
        found.append(f"{host.in_flight} requests counted in flight")
    if host.bulk:
        found.append(f"{len(host.bulk)} requests in the bulk lanes")
    if host.ready or host.ready_bulk:
        found.append(f"{len(host.ready) + len(host.ready_bulk)} entries in the run queue")
    for wiring in host.wirings.values():
        for replica in (replica for node in wiring.operators() for replica in node.replicas):
            if depth := replica.depth():
                found.append(f"{depth} envelopes in the mailbox of {wiring.name}/{replica.name}")
            if replica.busy():
                found.append(f"an activation in {wiring.name}/{replica.name}")
        for node in wiring.nodes.values():
            if isinstance(node, (QueuedFeeding, Improving)) and (depth := node.depth()):
                found.append(f"{depth} envelopes on their way round at {wiring.name}/{node.name}")
    found += [f"keys of {space} locked or waited for" for space, locks in host.spaces.items() if not locks.idle]
    for request in ended or ():
        if not request.state:
            found.append(f"request {request.id} has not ended")
        if any(request.counts):
            found.append(f"request {request.id} of {request.stream.name} ended with counts {request.counts}")
    if found:
        raise LeftoverError(found)
