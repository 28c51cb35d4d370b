"""The errors, as one tree.

    ActorflowError
    ├── TopologyError               the graph cannot run; every fault is listed
    ├── UnknownStreamError          no stream, actor, request or dead letter of that name
    ├── InvalidItemError            a door refused an item that does not fit the declared type
    ├── CodecError                  a value cannot cross the wire
    ├── ProtocolError               a peer broke the wire protocol
    ├── ConnectionLostError         the connection to a host ended            (retryable)
    └── RequestError                a request ended without its reply
        ├── ActivationError         an operator raised; also an instance of the class it raised
        ├── DeadlineExceededError   the deadline passed
        ├── RequestCancelledError   the caller cancelled, or left
        ├── NoReplyError            the stream declared an answer and gave none
        ├── TooManyRepliesError     the stream declared one answer and gave more
        ├── DroppedReplyError       a deferred answer was dropped unanswered
        ├── CallCycleError          the request waits for itself
        ├── ReplayError             a re-run asked something else than its first run
        ├── ActorGoneError          the actor asked has ended
        ├── ReplicaFailedError      an operator could not be (re)started
        ├── HostLostError           the host went away
        ├── HostStoppingError       the host drains and takes no new work     (retryable)
        └── LimitError              a limit was reached                       (overloaded)
            ├── TooManyRequestsError                                          (retryable)
            ├── MailboxFullError
            ├── ItemBudgetError
            ├── CallDepthError
            └── SpawnLimitError

`retryable` says that no activation of the request has committed, so that asking again is safe.
`overloaded` says that the request itself was fine and the host had no room for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

SUMMARY_CHARACTERS_MAX = 200


def summary(value: object) -> str:
    """Return a short text of any value for an error message; never raises."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}: its repr() raised {type(error).__name__}>"
    return text if len(text) <= SUMMARY_CHARACTERS_MAX else text[: SUMMARY_CHARACTERS_MAX - 1] + "…"


class ActorflowError(Exception):
    """The root of the tree: a message and, as attributes, the values it speaks of.

    Attributes: `stream`, `operator`, `replica`, `host`, `item` (a summary), `cause_type`, `cause_text`,
    `request_id` (each a string, or None where it does not apply), `retryable` and `overloaded`.
    """

    retryable: bool = False
    overloaded: bool = False
    FIELDS: ClassVar[tuple[str, ...]] = (
        "stream", "operator", "replica", "host", "item", "cause_type", "cause_text", "request_id",
    )  # fmt: skip

    stream: str | None = None
    operator: str | None = None
    replica: str | None = None
    host: str | None = None
    item: str | None = None
    cause_type: str | None = None
    cause_text: str | None = None
    request_id: str | None = None

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        for name, value in fields.items():
            setattr(self, name, value)

    @property
    def message(self) -> str:
        """Return the sentence that says what happened, where and what to do."""
        return str(self)

    def to_wire(self) -> dict[str, Any]:
        """Return the error as plain values: type, message, flags and the fields that are set."""
        wire: dict[str, Any] = {"type": _wire_name(self), "message": str(self)}
        for name in (*self.FIELDS, "retryable", "overloaded"):
            if (value := getattr(self, name)) not in {None, False}:
                wire[name] = value
        if (extra := _cause_arguments(self)) is not None:
            wire["cause_args"] = extra
        return wire


class TopologyError(ActorflowError):
    """The graph cannot run. `faults` lists everything found, each with its place."""

    faults: tuple[str, ...] = ()

    def __init__(self, faults: Sequence[str] | str, **fields: Any) -> None:
        listed = (faults,) if isinstance(faults, str) else tuple(faults)
        head = "the graph cannot run" if len(listed) == 1 else f"the graph cannot run, {len(listed)} faults"
        super().__init__(f"{head}: " + "; ".join(listed), **fields)
        self.faults = listed


class UnknownStreamError(ActorflowError):
    """No stream, actor, request or dead letter of that name is known here."""


class InvalidItemError(ActorflowError):
    """An item does not fit the type that the stream declares; nothing was started."""


class CodecError(ActorflowError):
    """A value cannot be encoded, or bytes cannot be decoded."""


class ProtocolError(ActorflowError):
    """A peer sent something that the wire protocol does not allow."""


class ConnectionLostError(ActorflowError):
    """The connection to the host ended before the answer came; the outcome is unknown."""


class RequestError(ActorflowError):
    """A request ended without its reply."""


class ActivationError(RequestError):
    """An operator raised while it worked on an item.

    What a client catches is also an instance of the class that the operator raised, where both sides know it:
    `except OutOfStock` and `except ActivationError` both work. The original is `__cause__` on the same host.
    """

    message_text: str = ""

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.message_text = message

    def __str__(self) -> str:
        return self.message_text


class DeadlineExceededError(RequestError):
    """The deadline passed; what was left of the request was cancelled."""


class RequestCancelledError(RequestError):
    """The caller cancelled the request, or left without asking to detach."""


class NoReplyError(RequestError):
    """The stream is declared to answer and ended without an answer."""


class TooManyRepliesError(RequestError):
    """The stream is declared to answer once and answered again."""


class DroppedReplyError(RequestError):
    """A deferred answer was dropped without `reply` or `fail`."""


class CallCycleError(RequestError):
    """The request waits for itself: `circle` names who waits for whom."""

    circle: tuple[str, ...] = ()


class ReplayError(RequestError):
    """An activation that was run again asked for something else than in its first run."""


class ActorGoneError(RequestError):
    """The actor that was asked has ended."""


class ReplicaFailedError(RequestError):
    """An operator could not be started, or failed too often to be restarted."""


class HostLostError(RequestError):
    """A host that worked on the request went away."""


class HostStoppingError(RequestError):
    """The host drains: it finishes what it has and takes nothing new."""

    retryable = True


class LimitError(RequestError):
    """A limit was reached; the message names it and the parameter that raises it."""

    overloaded = True


class TooManyRequestsError(LimitError):
    """Too many requests are in flight; nothing of this one was started."""

    retryable = True


class MailboxFullError(LimitError):
    """A mailbox is full."""


class ItemBudgetError(LimitError):
    """A request, or the host, has more items outstanding than allowed."""


class CallDepthError(LimitError):
    """Child requests are nested deeper than allowed."""


class SpawnLimitError(LimitError):
    """A request has more live actors than allowed."""


_combined: dict[type[BaseException], type[ActivationError]] = {}


def activation_error(cause: BaseException, message: str, **fields: Any) -> ActivationError:
    """Return an ActivationError that is also an instance of the class of `cause`, with its arguments."""
    kind = _combined.get(type(cause))
    if kind is None:
        kind = _combined[type(cause)] = _combine(type(cause))
    try:
        error = kind.__new__(kind)
        error.__dict__.update(getattr(cause, "__dict__", {}))
        error.args = cause.args
    except Exception:  # an exception class with a __new__ of its own: the plain error still names it
        error = ActivationError(message)
    error.message_text = message
    error.__cause__ = cause
    fields.setdefault("cause_type", type(cause).__name__)
    fields.setdefault("cause_text", summary(cause) if not cause.args else str(cause))
    for name, value in fields.items():
        setattr(error, name, value)
    return error


def _combine(cause: type[BaseException]) -> type[ActivationError]:
    if not issubclass(cause, Exception) or issubclass(cause, ActivationError):
        return cause if issubclass(cause, ActivationError) else ActivationError
    try:
        combined = type(cause.__name__, (ActivationError, cause), {"__module__": cause.__module__, "cause": cause})
    except TypeError:  # two C layouts cannot be combined
        return ActivationError
    return combined


def _wire_name(error: ActorflowError) -> str:
    kind: type = getattr(type(error), "cause", None) or type(error)
    return kind.__qualname__ if kind.__module__ == __name__ else f"{kind.__module__}:{kind.__qualname__}"


def _cause_arguments(error: ActorflowError) -> list[Any] | None:
    """Return the original exception's arguments when they are plain values that any peer can read."""
    if not isinstance(error, ActivationError) or type(error) is ActivationError:
        return None
    plain = (str, int, float, bool, bytes, type(None))
    return list(error.args) if all(isinstance(value, plain) for value in error.args) else None


def from_wire(wire: Mapping[str, Any]) -> ActorflowError:
    """Rebuild an error that `to_wire` made.

    An exception class that this process has imported too is rebuilt as that class, from plain arguments and without
    running its constructor; any other arrives as an ActivationError with `cause_type` and `cause_text`.
    """
    name, message = str(wire.get("type", "RequestError")), str(wire.get("message", ""))
    fields = {field: wire[field] for field in (*ActorflowError.FIELDS, "retryable", "overloaded") if field in wire}
    own = globals().get(name)
    if isinstance(own, type) and issubclass(own, ActorflowError):
        return TopologyError(message, **fields) if own is TopologyError else own(message, **fields)
    cause = _imported_exception(name)
    if cause is None:
        return ActivationError(message, **fields)
    try:
        original = cause.__new__(cause)
        original.args = tuple(wire.get("cause_args") or ())
    except Exception:
        return ActivationError(message, **fields)
    return activation_error(original, message, **fields)


def _imported_exception(name: str) -> type[Exception] | None:
    """Return the exception class of a "module:class" name if this process has it already; never imports."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None
