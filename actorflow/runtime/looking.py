"""What people want to see of a host: its streams, its replicas, requests in flight and where they are."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

from actorflow.errors import UnknownStreamError
from actorflow.runtime.pulse import items_of

if TYPE_CHECKING:
    from actorflow.plan.topology import Topology
    from actorflow.runtime.host import Host
    from actorflow.runtime.request import Request

CHILDREN_SHOWN = 100
REQUESTS_SHOWN, REQUESTS_SHOWN_MAX = 100, 10_000
"""Requests in flight that one answer shows."""


def host_of(host: Host) -> dict[str, Any]:
    """Return how a host is, with a row for each replica (see `Pulses.report`)."""
    return {
        "host": host.name,
        "app": host.app.name,
        "incarnation": host.incarnation,
        "uptime_s": round(host.now_s() - host.began_s, 3),
        "draining": host.draining,
        "durable": host.journal is not None,
        "in_flight": host.in_flight,
        "dead_letters": len(host.dead_letters),
        "requests": {wiring.name: {"in_flight": wiring.in_flight} for wiring in host.wirings.values()},
        "replicas": host.pulses.report(),
    }


def streams_of(host: Host) -> list[dict[str, Any]]:
    """Return what the streams of a host take and answer, those that are asleep, too."""
    return [_stream_of(host, topology) for topology in host.app.streams.values()]


def _stream_of(host: Host, topology: Topology) -> dict[str, Any]:
    wiring = host.wirings.get(topology.stream)
    return {
        "name": topology.stream,
        "request_type": _name(topology.request_type),
        "reply_type": _name(topology.reply_type),
        "replies": topology.replies,
        "timeout_s": topology.timeout_s or host.limits.timeout_s,
        "in_flight": wiring.in_flight if wiring is not None else 0,
        "steps": [step.name for step in topology.steps],
    }


def requests_of(host: Host, *, stream: str | None, limit: int) -> list[Request]:
    """Return requests in flight, of all streams or of one, the oldest first."""
    if stream is None:
        return list(islice(host.requests.values(), limit))
    name = host.app[stream].name
    return list(islice((work for work in host.requests.values() if work.stream.name == name), limit))


def request_of(host: Host, request_id: str) -> Request:
    """Return a request in flight by its id. Raises: UnknownStreamError."""
    request = host.find(request_id)
    if request is None:
        raise UnknownStreamError(f"no request {request_id!r} is in flight here")
    return request


def line_of(request: Request) -> dict[str, Any]:
    """Return how a request is, in short."""
    now_s = request.host.now_s()
    return {
        "id": request.id,
        "stream": request.stream.name,
        "state": "running",
        "age_s": round(now_s - request.root.begun_s, 3),
        "deadline_in_s": round(request.deadline_s - now_s, 3),
        "outstanding": request.outstanding(),
        "loops": [loop.to_wire() for loop in request.loops()],
    }


def details_of(request: Request) -> dict[str, Any]:
    """Return how a request is, and where: items in mailboxes and at work, what waits for an end, its way back."""
    details = request.details
    return {
        **line_of(request),
        "where": _where(request),
        "return_stack": [frame.replica.name for frame in details.frames] if details is not None else [],
        "children": [child.id for child in islice(details.children, CHILDREN_SHOWN)] if details is not None else [],
        "parent": request.parent.id if request.parent is not None else None,
        "attributes": dict(request.attributes),
        "key": details.key if details is not None else None,
    }


def _where(request: Request) -> list[dict[str, Any]]:
    """Return at which steps items of a request are, and how: waiting, at work, or held for what is still to come."""
    places: Counter[tuple[int | None, str, str]] = Counter()
    for node in request.stream.operators():
        for replica in node.replicas:
            for count in items_of(replica, request):
                places[node.number, node.name, "waiting"] += count
    details = request.details
    if details is not None:
        for activation in details.activations:
            node = activation.replica.node
            places[node.number, node.name, "at work"] += 1
        for replica in details.actors.values():
            for count in items_of(replica, request):
                places[None, replica.name, "waiting"] += count
        for number in details.folds:
            node = request.stream.nodes[number]
            places[node.number, node.name, "held"] += 1
        for timer in details.timers:
            node = timer.about[0].node
            places[node.number, node.name, "a timer"] += 1
        for child in details.children:
            places[None, f"stream {child.stream.name}", "called"] += 1
    return [
        {"step": step, "operator": operator, "items": items, "how": how}
        for (step, operator, how), items in sorted(places.items(), key=lambda each: (each[0][0] or 0, each[0][1:]))
    ]


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)
