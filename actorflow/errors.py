"""The errors, as one tree.

    ActorflowError
    ├── TopologyError               the graph cannot run; every fault is listed
    ├── SpecError                   an app that is written as data cannot be read, or an app not be written so
    ├── UnknownStreamError          no stream, actor, request or dead letter of that name
    ├── InvalidItemError            a door refused an item that does not fit the declared type
    ├── CodecError                  a value cannot cross the wire
    ├── CompileError                a function is outside the subset that compiles to WASM
    ├── ProtocolError               a peer broke the wire protocol
    ├── ConnectionLostError         the connection to a host ended            (retryable)
    ├── ReplayExpiredError          replies that were asked for again are not kept any more
    ├── CellError                   an operator may not do that with a cell
    │   ├── AccessError             it has not declared this access, or the key is not in its hands
    │   ├── CellTypeError           a key or a value is not of the declared type
    │   ├── CellFullError           the cell has as many entries as it may have   (overloaded)
    │   └── StaleSnapshotError      what a snapshot shows is older than declared
    ├── StoreError                  the store cannot be used
    │   ├── StoreLockedError        another host has it open
    │   ├── StoreDamagedError       it does not hold what was written
    │   ├── StoreVersionError       other software, another app or an older schema wrote it
    │   └── StoreFullError          no room: nothing is acknowledged until there is   (overloaded)
    ├── DeployError                 an app cannot be deployed, or taken away; nothing has changed
    ├── WasmError                   a function in WASM
    │   ├── ModuleError             the module, or the export of it, cannot be used
    │   ├── TrapError               it came to a trap: its own fault, or a limit of its sandbox
    │   ├── WasmTimeoutError        it ran longer than it may
    │   └── ContractError           what it gave are not the bytes that the contract describes
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
            ├── RoundLimitError
            ├── CallDepthError
            └── SpawnLimitError

`retryable` says that no activation of the request has committed, so that asking again is safe.
`overloaded` says that the request itself was fine and the host had no room for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, ClassVar, TypeAlias

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
    `request_id` (each a string, or None where it does not apply), `retryable` and `overloaded`. A subclass may have
    more: FIELDS names all that travel, each a string, an int or a tuple of strings.
    """

    retryable: bool = False
    overloaded: bool = False
    FLAGS: ClassVar[tuple[str, ...]] = ("retryable", "overloaded")
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
        """Return the error as plain values: type, message, flags and the fields that are set; never raises.

        `cause_args` is there if and only if an operator raised it: what arrives is an ActivationError, too.
        """
        wire: dict[str, Any] = {"type": _wire_name(self), "message": str(self)}
        for name in self.FIELDS:
            value = getattr(self, name)
            if value is not None and value != ():
                wire[name] = _plain_field(value)
        for name in self.FLAGS:
            flag, usual = getattr(self, name), getattr(type(self), name)
            if flag or usual:  # who does not know the class must be told True, who knows it must be told False
                wire[name] = bool(flag)
        if isinstance(self, ActivationError) and type(self) is not ActivationError:
            wire["cause_args"] = list(self.args) if all(map(_is_plain, self.args)) else []
        return wire


class TopologyError(ActorflowError):
    """The graph cannot run. `faults` lists everything found, each with its place."""

    FIELDS: ClassVar[tuple[str, ...]] = (*ActorflowError.FIELDS, "faults")
    faults: tuple[str, ...] = ()

    def __init__(self, faults: Sequence[str] | str, **fields: Any) -> None:
        listed = (faults,) if isinstance(faults, str) else tuple(faults)
        head = "the graph cannot run" if len(listed) == 1 else f"the graph cannot run, {len(listed)} faults"
        super().__init__(f"{head}: " + "; ".join(listed), **fields)
        self.faults = listed


class SpecError(ActorflowError):
    """An app that is written as data cannot be read, or an app cannot be written as data.

    `faults` lists everything found, each with its file, line and place in it, or with its stream and step.
    """

    FIELDS: ClassVar[tuple[str, ...]] = (*ActorflowError.FIELDS, "faults")
    faults: tuple[str, ...] = ()

    def __init__(self, faults: Sequence[str] | str, **fields: Any) -> None:
        listed = (faults,) if isinstance(faults, str) else tuple(faults)
        head = "" if len(listed) == 1 else f"{len(listed)} faults: "
        super().__init__(head + "; ".join(listed), **fields)
        self.faults = listed


class UnknownStreamError(ActorflowError):
    """No stream, actor, request or dead letter of that name is known here."""


class InvalidItemError(ActorflowError):
    """An item does not fit the type that the stream declares; nothing was started."""


class CodecError(ActorflowError):
    """A value cannot be encoded, or bytes cannot be decoded."""


class CompileError(ActorflowError):
    """A function cannot be compiled to WASM; nothing of it is run. `file` and `line` say where (None: nowhere)."""

    FIELDS: ClassVar[tuple[str, ...]] = (*ActorflowError.FIELDS, "file", "line")
    file: str | None = None
    line: int | None = None


class ProtocolError(ActorflowError):
    """A peer sent something that the wire protocol does not allow."""


class ConnectionLostError(ActorflowError):
    """The connection to the host ended before the answer came; the outcome is unknown."""

    memory: str | None = None


class ReplayExpiredError(ActorflowError):
    """Replies that were asked for again are not kept any more, or the host knows no such request."""


class CellError(ActorflowError):
    """An operator may not do that with a cell. `cell` names it."""

    FIELDS: ClassVar[tuple[str, ...]] = (*ActorflowError.FIELDS, "cell")
    cell: str | None = None


class AccessError(CellError):
    """The access was not declared, or the key is not the one in hand, or not locked."""


class CellTypeError(CellError):
    """A key or a value is not of the type that the cell declares."""


class CellFullError(CellError):
    """The cell has as many entries as it may have."""

    overloaded = True


class StaleSnapshotError(CellError):
    """What a snapshot shows is older than the age that was declared."""


class StoreError(ActorflowError):
    """The store cannot be used; the message says what it is and what to do."""


class StoreLockedError(StoreError):
    """Another host has the store open."""


class StoreDamagedError(StoreError):
    """The store does not hold what was written to it; nothing in it was changed."""


class StoreVersionError(StoreError):
    """The store was written by other software, another app, or with another schema of a cell."""


class StoreFullError(StoreError):
    """There is no room in the store: nothing more is acknowledged until there is."""

    overloaded = True


class DeployError(ActorflowError):
    """An app cannot be deployed to this host, or taken away from it; nothing has changed."""


class WasmError(ActorflowError):
    """A function in WASM failed. `module` is its reference, such as "wasm:tokens.wasm#tokenise"."""

    FIELDS = (*ActorflowError.FIELDS, "module")
    module: str | None = None


class ModuleError(WasmError):
    """A WASM module, or the export that was asked for, cannot be used; nothing was started."""


class TrapError(WasmError):
    """A WASM function came to a trap. `trap` says what it was; what it had done is undone, and its memory is new."""

    FIELDS = (*WasmError.FIELDS, "trap")
    trap: str | None = None


class WasmTimeoutError(WasmError):
    """A WASM function ran longer than its sandbox, or the deadline of the request, allows."""


class ContractError(WasmError):
    """What a WASM function gave, or where it said that it is, is not what the contract describes."""


class RequestError(ActorflowError):
    """A request ended without its reply."""


class ActivationError(RequestError):
    """An operator raised while it worked on an item.

    What a client catches is also an instance of the class that the operator raised, where both sides know it:
    `except OutOfStock` and `except ActivationError` both work, and the attributes of the original can be read. Where
    one is named like a field of ours, ours wins: the original, unchanged, is `__cause__` on the same host.
    """

    message_text: str | None = None  # where `args` are those of the cause

    def __str__(self) -> str:
        return super().__str__() if self.message_text is None else self.message_text


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

    FIELDS: ClassVar[tuple[str, ...]] = (*ActorflowError.FIELDS, "circle")
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


class RoundLimitError(LimitError):
    """A loop did not come to an end within the rounds, or trips, allowed."""


class CallDepthError(LimitError):
    """Child requests are nested deeper than allowed."""


class SpawnLimitError(LimitError):
    """A request has more live actors than allowed."""


_Descriptor: TypeAlias = MemberDescriptorType | GetSetDescriptorType

_combined: dict[type[BaseException], tuple[type[ActivationError], tuple[_Descriptor, ...]]] = {}


def activation_error(cause: BaseException, message: str, **fields: Any) -> ActivationError:
    """Return an ActivationError that is also an instance of the class of `cause`, with its arguments and attributes.

    Never raises, whatever the class does: one that cannot be combined is named by `cause_type` alone (those that mean
    something to Python, such as StopIteration and KeyboardInterrupt, are among them). `fields` win over
    attributes of the cause that have the same name.
    """
    error = _combined_error(cause) or ActivationError(message)
    fields.setdefault("cause_type", type(cause).__name__)
    fields.setdefault("cause_text", cause_text(cause))
    error.__dict__.update(fields, message_text=message)  # past __setattr__, which the cause's class may have made raise
    BaseException.__setattr__(error, "__cause__", cause)
    return error


def cause_text(cause: BaseException) -> str:
    """Return what an exception says of itself, or its repr() where it says nothing; never raises."""
    try:
        return (str(cause) if cause.args else "") or summary(cause)
    except Exception:
        return summary(cause)


def _combined_error(cause: BaseException) -> ActivationError | None:
    """Return an instance of both classes that is in the state of `cause`, or None where the class does not allow it."""
    try:
        if type(cause) not in _combined:
            _combined[type(cause)] = _combine(type(cause)), tuple(_descriptors(type(cause)))
        kind, descriptors = _combined[type(cause)]
        error = kind.__new__(kind)
        if type(error) is not kind:
            return None
        own = vars(cause)
        error.__dict__.update(own if isinstance(cause, ActorflowError) else _without_flags(own))
        BaseException.__setattr__(error, "args", cause.args)
    except Exception:
        return None
    for descriptor in descriptors:
        try:
            value = descriptor.__get__(cause)
            if isinstance(error, descriptor.__objclass__):
                descriptor.__set__(error, value)
            else:
                error.__dict__[descriptor.__name__] = value
        except (AttributeError, TypeError):  # not set in the cause, or read-only
            continue
    return error


def _without_flags(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only happens to be named like our flags: those are promises of ours."""
    return {name: value for name, value in attributes.items() if name not in ActorflowError.FLAGS}


def _combine(cause: type[BaseException]) -> type[ActivationError]:
    """Return a class that is both. Raises: TypeError for two C layouts, and whatever __init_subclass__ raises."""
    if issubclass(cause, ActivationError):
        return cause
    if not issubclass(cause, Exception) or issubclass(cause, (StopIteration, StopAsyncIteration)):
        return ActivationError  # what means something to Python itself cannot be raised through a coroutine
    return type(cause.__name__, (ActivationError, cause), {"__module__": cause.__module__, "cause": cause})


def _descriptors(cause: type[BaseException]) -> list[_Descriptor]:
    """Return where instances keep what is not in their __dict__: slots, and fields of C such as `errno`."""
    ours = set(BaseException.__mro__)
    return [
        descriptor
        for kind in cause.__mro__
        if kind not in ours
        for name, descriptor in vars(kind).items()
        if isinstance(descriptor, (MemberDescriptorType, GetSetDescriptorType)) and not name.startswith("__")
    ]


def _wire_name(error: ActorflowError) -> str:
    kind: type = getattr(type(error), "cause", None) or type(error)
    return kind.__qualname__ if kind.__module__ == __name__ else f"{kind.__module__}:{kind.__qualname__}"


def _is_plain(value: object) -> bool:
    """Return whether any peer can read a value."""
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 64
    return value is None or type(value) in {str, float, bool, bytes}


def _plain_field(value: Any) -> Any:
    """Return a field as it travels: text, a number, or a list of texts."""
    if type(value) in {tuple, list}:
        return [_plain_field(part) for part in value]
    return value if type(value) is str or (type(value) is int and _is_plain(value)) else summary(value)


def from_wire(wire: Mapping[str, Any]) -> ActorflowError:
    """Rebuild an error that `to_wire` made; never raises for a mapping.

    An exception class that this process has imported too is rebuilt as that class, from plain arguments and without
    running its constructor; any other arrives as an ActivationError with `cause_type` and `cause_text`.
    """
    name, message = str(wire.get("type", "RequestError")), str(wire.get("message", ""))
    own = globals().get(name)
    kind = own if isinstance(own, type) and issubclass(own, ActorflowError) else _imported_exception(name)
    fields = _received_fields(kind, wire)
    if kind is own and kind is not None and "cause_args" not in wire:
        error: ActorflowError = kind.__new__(kind)
        ActorflowError.__init__(error, message, **fields)  # not its own: that of TopologyError writes the message
        return error
    if kind is None:
        return ActivationError(message, **fields)
    try:
        original = kind.__new__(kind)
        original.args = tuple(wire.get("cause_args") or ())
    except Exception:
        return ActivationError(message, **fields)
    return activation_error(original, message, **fields)


def _received_fields(kind: type[Exception] | None, wire: Mapping[str, Any]) -> dict[str, Any]:
    names = kind.FIELDS if kind is not None and issubclass(kind, ActorflowError) else ActorflowError.FIELDS
    fields = {name: wire[name] for name in (*names, *ActorflowError.FLAGS) if name in wire}
    return {name: tuple(value) if type(value) is list else value for name, value in fields.items()}


def _program_named(module: str) -> ModuleType | None:
    """Return the program, where it was started by this name (`python -m`): it calls itself `__main__`."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return main if spec is not None and spec.name == module else None


def _imported_exception(name: str) -> type[Exception] | None:
    """Return the exception class of a "module:class" name if this process has it already; never imports.

    Looks in the dictionaries of modules and classes alone: the __getattr__ of a module may import what it names.
    """
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module) or _program_named(module)
    for part in path.split("."):
        found = vars(found).get(part) if isinstance(found, (ModuleType, type)) else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None
