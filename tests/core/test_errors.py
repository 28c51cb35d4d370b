"""The tree of errors, and errors on their way to another process."""

import dataclasses
import re
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorflow import errors
from actorflow.errors import (
    ActivationError,
    ActorflowError,
    CallCycleError,
    CodecError,
    HostStoppingError,
    MailboxFullError,
    RequestError,
    TooManyRequestsError,
    TopologyError,
    activation_error,
    from_wire,
    summary,
)

CLASSES = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ActorflowError)
}
SIMPLE = [kind for kind in CLASSES.values() if kind is not TopologyError]


class OutOfStock(Exception):
    pass


class NeedsTwo(Exception):
    def __init__(self, first: int, *, second: str) -> None:
        super().__init__(f"{first} {second}")
        self.first = first
        self.second = second


class ForgetsSuper(Exception):
    def __init__(self, code: object) -> None:
        self.code = code


class HasSlots(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__("slots")
        self.code = code


class OwnNew(Exception):
    def __new__(cls, wanted: int) -> "OwnNew":  # noqa: PYI034
        return super().__new__(cls, wanted)


class TwoBases(KeyError, AttributeError):
    pass


class OwnLimit(MailboxFullError):
    pass


class HasProperties(Exception):
    @property
    def stream(self) -> str:
        return "mine"

    @property
    def message_text(self) -> str:
        return "mine"


class RaisingRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class RaisingStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


class Final(Exception):
    def __init_subclass__(cls) -> None:
        raise RuntimeError("final")


@dataclasses.dataclass(frozen=True)
class FrozenItem(Exception):
    item: str


class Single(Exception):
    def __new__(cls) -> "Single":  # noqa: PYI034
        return ONLY[0] if ONLY else super().__new__(cls)


ONLY: list[Single] = []
ONLY.append(Single())
CAUSES = [
    OutOfStock("tea"), NeedsTwo(1, second="b"), ForgetsSuper(object()), HasSlots(3), TwoBases("x"), OwnLimit("full"),
    HasProperties("x"), RaisingRepr(), KeyError("tea"), KeyError(), OSError(2, "no such file", "a.txt"),
    FileNotFoundError("gone"), socket.gaierror(-2, "unknown"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    UnicodeEncodeError("ascii", "é", 0, 1, "ordinal"), SyntaxError("bad", ("f", 1, 2, "t")),
    ImportError("x", name="y"), RecursionError(), RequestError("x", stream="s"), TooManyRequestsError("busy"),
    TopologyError(["a", "b"]), CodecError("x"), ActivationError("inner", operator="Inner"),
    activation_error(KeyError("inner"), "inner"), AssertionError([1, 2]), Exception(),
]  # fmt: skip


# The tree


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    line_of: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            line_of[depth:] = [found[2]]
            drawn[found[2]] = line_of[depth - 1] if depth else "Exception"

    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}


def test_the_flags_in_the_docstring_are_the_flags_of_the_classes() -> None:
    text = errors.__doc__ or ""
    marked = {flag: set(re.findall(rf"(\w+Error)\b[^\n]*\({flag}\)", text)) for flag in ("retryable", "overloaded")}

    assert marked["retryable"] == {name for name, kind in CLASSES.items() if kind.retryable} | {"ConnectionLostError"}
    assert marked["overloaded"] == {name for name, kind in CLASSES.items() if "overloaded" in vars(kind)} - {
        "ActorflowError"
    }


# To the wire and back


@given(
    st.sampled_from(SIMPLE),
    st.text(),
    st.dictionaries(st.sampled_from(ActorflowError.FIELDS), st.text()),
    st.sets(st.sampled_from(["retryable", "overloaded"])),
)
def test_an_error_arrives_as_what_it_was(
    kind: type[ActorflowError], message: str, fields: dict[str, str], flags: set[str]
) -> None:
    sent = kind(message, **fields, **dict.fromkeys(flags, True))

    received = from_wire(sent.to_wire())

    assert type(received) is kind
    assert received.message == message
    for name in (*ActorflowError.FIELDS, "retryable", "overloaded"):
        assert getattr(received, name) == getattr(sent, name), name


@pytest.mark.parametrize("kind", [HostStoppingError, TooManyRequestsError])
def test_an_error_that_is_not_retryable_after_all_arrives_as_such(kind: type[ActorflowError]) -> None:
    sent = kind("an activation has committed", retryable=False)

    assert from_wire(sent.to_wire()).retryable is False


def test_a_flag_is_told_to_who_does_not_know_the_class() -> None:
    wire = {**OwnLimit("full").to_wire(), "type": "elsewhere:OwnLimit"}

    assert from_wire(wire).overloaded is True


@pytest.mark.parametrize("value", [["a"], {"k": 1}, {1}, object()], ids=repr)
def test_a_field_that_is_no_text_arrives_as_text(value: Any) -> None:
    wire = RequestError("m", item=value).to_wire()

    assert set(map(type, wire.values())) <= {str, list}


def test_a_topology_error_arrives_with_the_same_message_and_faults() -> None:
    sent = TopologyError(["s/a: one", "s/b: two"])

    received = from_wire(sent.to_wire())

    assert received.message == sent.message
    assert isinstance(received, TopologyError)
    assert received.faults == sent.faults


def test_a_call_cycle_error_arrives_with_its_circle() -> None:
    received = from_wire(CallCycleError("a waits for b", circle=("a", "b")).to_wire())

    assert isinstance(received, CallCycleError)
    assert tuple(received.circle) == ("a", "b")


@pytest.mark.parametrize("cause", [KeyError("tea"), OutOfStock("tea", 2), UnicodeDecodeError("utf-8", b"", 0, 1, "x")])
def test_a_cause_that_both_sides_know_arrives_as_its_class_with_its_arguments(cause: Exception) -> None:
    received = from_wire(activation_error(cause, "s/op failed", stream="s").to_wire())

    assert isinstance(received, type(cause))
    assert isinstance(received, ActivationError)
    assert received.args == cause.args
    assert received.message == "s/op failed"
    assert received.stream == "s"
    assert received.cause_type == type(cause).__name__
    assert received.cause_text == str(cause)


def test_a_cause_that_is_not_known_here_arrives_as_an_activation_error_that_names_it() -> None:
    received = from_wire({"type": "elsewhere:Oops", "message": "m", "cause_type": "Oops", "cause_text": "t"})

    assert type(received) is ActivationError
    assert (received.cause_type, received.cause_text) == ("Oops", "t")


def test_a_name_on_the_wire_never_imports_a_module_and_never_makes_what_is_no_exception() -> None:
    for name in ("antigravity:fly", "os:system", "builtins:object", "builtins:KeyboardInterrupt", ":", "a:b:c", ""):
        assert type(from_wire({"type": name, "message": "m"})) is ActivationError


@given(st.dictionaries(st.text() | st.sampled_from(["type", "message", "cause_args", "stream"]),
                       st.none() | st.integers() | st.text() | st.lists(st.integers())))  # fmt: skip
def test_any_mapping_from_the_wire_makes_some_error(wire: dict[str, Any]) -> None:
    assert isinstance(from_wire(wire), ActorflowError)


# Errors of activations


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_an_activation_error_is_also_what_the_operator_raised(cause: Exception) -> None:
    error = activation_error(cause, "s/op failed", stream="s", operator="op", item="'tea'")

    assert isinstance(error, ActivationError)
    assert isinstance(error, type(cause))
    assert error.args == cause.args
    assert str(error) == error.message == "s/op failed"
    assert error.__cause__ is cause
    assert (error.stream, error.operator, error.item) == ("s", "op", "'tea'")
    assert error.cause_type == type(cause).__name__
    assert isinstance(error.cause_text, str)
    assert isinstance(from_wire(error.to_wire()), type(cause))


@pytest.mark.parametrize(
    "cause",
    [
        StopAsyncIteration(),
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
        OwnNew(1),
        ExceptionGroup("g", [KeyError()]),
    ],
)
def test_what_cannot_be_combined_is_still_an_activation_error_that_names_it(cause: BaseException) -> None:
    error = activation_error(cause, "s/op failed")

    assert isinstance(error, ActivationError)
    assert error.__cause__ is cause
    assert error.cause_type == type(cause).__name__
    assert str(error) == "s/op failed"


@pytest.mark.parametrize("cause", [CodecError("x"), RequestError("x"), TooManyRequestsError("x")])
def test_an_actorflow_error_that_an_operator_raised_arrives_as_an_activation_error_too(cause: Exception) -> None:
    received = from_wire(activation_error(cause, "s/op failed").to_wire())

    assert isinstance(received, ActivationError)
    assert type(received) is type(activation_error(cause, "s/op failed"))


def test_attributes_of_the_cause_can_be_read() -> None:
    error: Any = activation_error(NeedsTwo(1, second="b"), "m")

    assert (error.first, error.second) == (1, "b")


class Promising(Exception):
    def __init__(self) -> None:
        super().__init__("try again")
        self.retryable = True
        self.stream = "a river"
        self.item = "mine"


def test_our_fields_win_over_attributes_of_the_cause_and_the_cause_keeps_its_own() -> None:
    cause = Promising()

    error: Any = activation_error(cause, "m", item="'tea'")

    assert (error.item, error.stream, error.retryable) == ("'tea'", "a river", False)
    assert error.__cause__ is cause
    assert cause.item == "mine"


def test_raising_the_same_class_again_makes_no_new_class() -> None:
    assert type(activation_error(OutOfStock(1), "a")) is type(activation_error(OutOfStock(2), "b"))


@pytest.mark.parametrize(
    ("cause", "attribute"),
    [(OSError(2, "no", "f"), "errno"), (OSError(2, "no", "f"), "filename"),
     (HasSlots(3), "code"), (ImportError("x", name="y"), "name"),
     (UnicodeDecodeError("utf-8", b"a", 0, 1, "r"), "reason")],
)  # fmt: skip
def test_attributes_of_the_cause_outside_its_dict_can_be_read(cause: Exception, attribute: str) -> None:
    error = activation_error(cause, "m")

    assert getattr(error, attribute, None) == getattr(cause, attribute)


@pytest.mark.parametrize(
    "cause", [RaisingStr("x"), Final("x"), FrozenItem("tea"), Single()], ids=lambda cause: type(cause).__name__
)
def test_no_cause_makes_activation_error_raise(cause: Exception) -> None:
    error = activation_error(cause, "m", item="'tea'")

    assert isinstance(error, ActivationError)
    assert (error.message, error.item, error.cause_type) == ("m", "'tea'", type(cause).__name__)
    assert error.__cause__ is cause


# Summaries


@given(st.text(max_size=500) | st.lists(st.integers(), max_size=500))
def test_a_summary_is_the_repr_cut_short(value: object) -> None:
    text = summary(value)

    assert len(text) <= errors.SUMMARY_CHARACTERS_MAX
    assert text == repr(value) or repr(value).startswith(text[:-1])


def test_a_summary_never_raises() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]

    assert "RuntimeError" in summary(RaisingRepr())
    assert "RecursionError" in summary(nested)
    assert "ValueError" in summary(10**5000)


@pytest.mark.parametrize("cause", [StopIteration(3), StopAsyncIteration()])
def test_what_ends_an_iteration_is_named_but_not_raised_as_such(cause: Exception) -> None:
    """A coroutine that raises StopIteration is a RuntimeError to Python: the caller must get an ActivationError."""
    error = activation_error(cause, "said so")

    assert type(error) is ActivationError
    assert (error.cause_type, error.__cause__) == (type(cause).__name__, cause)
