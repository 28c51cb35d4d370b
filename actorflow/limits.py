"""The limits of a host, each with its default. Nothing is unbounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a host allows. Every value is a parameter of `App(limits=…)`; a stream or operator may set its own.

    requests_per_host, requests_per_stream: requests in flight, child requests included.
    items_per_request: items of one request (with its children) that are outstanding at once; more is an error.
    items_ahead: outstanding items above which sources and generators of a request pause.
    items_per_host: outstanding items of all requests; above, admission stops and the largest request fails.
    batch_items: items that one envelope holds at the most.
    mailbox_envelopes: envelopes that wait in one mailbox at the most.
    rounds: rounds of one loop, or trips of one item where they are counted; more is an error.
    call_depth: child requests nested in one another.
    children_per_request: child requests of one root request that are open at once.
    actors_per_request: actors that one request has alive at once.
    replies_unread: streamed replies that wait for a slow reader before the request pauses.
    frame_bytes: one frame of the wire, one HTTP body.
    nesting_depth: containers within containers in one value from outside.
    dead_letters: dead letters kept; the oldest goes first.
    timeout_s: deadline of a request that names none.
    unwind_timeout_s: time that `on_reply` handlers have after their request has ended.
    blocked_after_s: a handler that holds the event loop longer is reported with its stack.
    reruns: how often an activation is run again to break a circle between requests.
    answers_kept, answers_kept_s: answers to requests with a key that are kept, and for how long after their end.
    delayed_sends: sends that wait for their time.
    replays_kept, replay_s, replay_bytes: streamed requests with a key whose replies are kept, for how long after their
        end, and how much of each that its caller has acknowledged (roughly); what it has not is always kept.
    """

    requests_per_host: int = 200_000
    requests_per_stream: int = 150_000
    items_per_request: int = 2_000_000
    items_ahead: int = 16_384
    items_per_host: int = 8_000_000
    batch_items: int = 512
    mailbox_envelopes: int = 1_000_000
    rounds: int = 10_000_000
    call_depth: int = 10_000
    children_per_request: int = 100_000
    actors_per_request: int = 250_000
    replies_unread: int = 1_024
    frame_bytes: int = 16 * MIB
    nesting_depth: int = 64
    dead_letters: int = 1_000
    timeout_s: float = 30.0
    unwind_timeout_s: float = 5.0
    blocked_after_s: float = 1.0
    reruns: int = 20
    answers_kept: int = 1_000_000
    answers_kept_s: float = 3_600.0
    delayed_sends: int = 1_000_000
    replays_kept: int = 10_000
    replay_s: float = 60.0
    replay_bytes: int = 4 * MIB

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"Limits({name}={getattr(self, name)!r}): a limit is a positive number")


def is_count(value: Any, least: int = 1) -> bool:
    """Return whether a value is a whole number of at least so much; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
