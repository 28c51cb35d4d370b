"""Every operator on the edges of what it is given, against Python with ints of 64 bits, bit for bit."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wasm.programs import FLOATS, INTS
from tests.wasm.running import Outcome, Running, checked, compared, compile_function, define, python_outcome

EDGES = sorted({*INTS, *range(-3, 4), 10**18, -(10**18)})
CONSTANTS = [0, 1, -1, 2, 3, -3, 8, -8, 63, 64, 1000003, 1 << 31, 3037000500, (1 << 53) + 1, 1 << 62, -(1 << 62),
             (1 << 63) - 1, -(1 << 63)]  # fmt: skip
INT_OPERATORS = ["+", "-", "*", "//", "%", "/", "**", "&", "|", "^", "<<", ">>"]
FLOAT_OPERATORS = ["+", "-", "*", "/", "//", "%"]
COMPARISONS = ["<", "<=", ">", ">=", "==", "!="]
REALS = [*FLOATS, *(2.0**power + delta for power in (52, 53, 54, 62) for delta in (-1, 0, 1, 2)), 9007199254740993.0,
         0.3,
         -0.3, 7.25, -1e-310, 4.35e-320, 123456789.123]  # fmt: skip
ints = st.integers(-(1 << 63), (1 << 63) - 1) | st.sampled_from(EDGES) | st.integers(-100, 100)
reals = st.floats() | st.sampled_from(REALS)


def text_of(expression: str, result: str, **params: str) -> str:
    given_ = ", ".join(f"{name}: {kind}" for name, kind in params.items())
    return f"@wasm\ndef f({given_}) -> {result}:\n    return {expression}\n"


def result_of(operator: str) -> str:
    return "bool" if operator in COMPARISONS else "float" if operator == "/" else "int"


@pytest.mark.parametrize("operator", INT_OPERATORS + COMPARISONS)
def test_ints_at_their_edges(operator: str) -> None:
    text = text_of(f"a {operator} b", result_of(operator), a="int", b="int")

    compared(text, "f", *itertools.product(EDGES, EDGES))


@pytest.mark.parametrize("operator", INT_OPERATORS + COMPARISONS)
def test_an_int_and_a_constant(operator: str) -> None:
    for constant in CONSTANTS:
        right = text_of(f"a {operator} ({constant})", result_of(operator), a="int")
        left = text_of(f"({constant}) {operator} a", result_of(operator), a="int")

        compared(right, "f", *((value,) for value in EDGES))
        compared(left, "f", *((value,) for value in EDGES))


@pytest.mark.parametrize("operator", INT_OPERATORS)
@pytest.mark.parametrize(("one", "other"), [
    ("(a & 9223372036854775807)", "(b & 9223372036854775807)"), ("(a & 255)", "b"), ("a", "(b & 127)"),
    ("(a % 1000003)", "(b % 1000003 + 1)"), ("(a >> 33)", "(b >> 30)"), ("-(a & 4294967295)", "b"), ("a", "-(b & 63)"),
    ("(a // 3)", "(b % -5)"), ("min(a, 0)", "max(b, 1)"), ("(a | 1)", "abs(b % 9)"), ("(a == b)", "b"),
    ("a", "(a < b)"),
    ("(a < 5)", "(b < 5)"), ("~(a & 1)", "(b ^ b)"),
])  # fmt: skip
def test_ints_whose_bounds_are_known(operator: str, one: str, other: str) -> None:
    both_bools = one.startswith("(a <") and operator in "&|^"
    text = text_of(f"{one} {operator} {other}", "bool" if both_bools else result_of(operator), a="int", b="int")

    compared(text, "f", *itertools.product(EDGES[::3], EDGES[::2]))


@pytest.mark.parametrize("operator", FLOAT_OPERATORS + COMPARISONS)
def test_floats_at_their_edges(operator: str) -> None:
    text = text_of(f"a {operator} b", "bool" if operator in COMPARISONS else "float", a="float", b="float")

    compared(text, "f", *itertools.product(REALS, REALS))


@pytest.mark.parametrize("operator", FLOAT_OPERATORS + COMPARISONS)
def test_an_int_and_a_float(operator: str) -> None:
    result = "bool" if operator in COMPARISONS else "float"

    compared(text_of(f"a {operator} b", result, a="int", b="float"), "f", *itertools.product(EDGES, REALS))
    compared(text_of(f"b {operator} a", result, a="int", b="float"), "f", *itertools.product(EDGES, REALS))


@pytest.mark.parametrize(("expression", "result"), [
    ("-a", "int"), ("+a", "int"), ("~a", "int"), ("abs(a)", "int"), ("not a", "bool"), ("float(a)", "float"),
    ("bool(a)", "bool"), ("int(a)", "int"), ("math.sqrt(a)", "float"), ("math.floor(a)", "int"), ("round(a)", "int"),
    ("a ** 2", "int"), ("a ** 3", "int"), ("a ** 0", "int"), ("-(a >> 1)", "int"), ("abs(a & 7)", "int"),
    ("a and 5", "int"), ("a or 5", "int"), ("3 if a else 4", "int"), ("-5 < a < 5", "bool"),
    ("0 < a <= 1.5 != a", "bool"),
])  # fmt: skip
def test_an_int_alone(expression: str, result: str) -> None:
    compared(text_of(expression, result, a="int"), "f", *((value,) for value in EDGES))


@pytest.mark.parametrize(("expression", "result"), [
    ("-a", "float"), ("+a", "float"), ("abs(a)", "float"), ("not a", "bool"), ("int(a)", "int"), ("bool(a)", "bool"),
    ("float(a)", "float"), ("math.floor(a)", "int"), ("math.ceil(a)", "int"), ("math.trunc(a)", "int"),
    ("round(a)", "int"), ("math.sqrt(a)", "float"), ("math.fabs(a)", "float"), ("math.isnan(a)", "bool"),
    ("math.isinf(a)", "bool"), ("math.isfinite(a)", "bool"), ("a and 2.5", "float"), ("a or 2.5", "float"),
    ("3.0 if a else -0.0", "float"), ("a % 1.0", "float"), ("a // 0.1", "float"), ("1 + a", "float"),
    ("a * math.pi", "float"),
])  # fmt: skip
def test_a_float_alone(expression: str, result: str) -> None:
    halves = [float(value) + part for value in range(-4, 5) for part in (0.0, 0.25, 0.5, 0.75)]

    compared(text_of(expression, result, a="float"), "f", *((value,) for value in [*REALS, *halves]))


@pytest.mark.parametrize(
    "expression", ["a & b", "a | b", "a ^ b", "a < b", "a == b", "a and b", "a or b", "min(a, b)", "max(a, b)"]
)
def test_bools_stay_bools(expression: str) -> None:
    compared(text_of(expression, "bool", a="bool", b="bool"), "f", *itertools.product([False, True], repeat=2))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "expression", ["a + b", "a * b", "-a - b", "~a", "+a", "a << b", "abs(a)", "a ** b", "int(a) % 2", "round(a)"]
)
def test_bools_are_ints_in_arithmetic(expression: str) -> None:
    compared(text_of(expression, "int", a="bool", b="bool"), "f", *itertools.product([False, True], repeat=2))


@pytest.mark.parametrize("name", ["min", "max"])
def test_the_least_and_the_largest_are_the_first_of_those_that_are_equal(name: str) -> None:
    compared(text_of(f"{name}(a, b)", "int", a="int", b="int"), "f", *itertools.product(EDGES, EDGES))
    three = text_of(f"{name}(a, b, -a)", "float", a="float", b="float")
    compared(three, "f", *itertools.product(REALS, REALS))


@pytest.mark.parametrize("index", ["i", "-1", "0", "i & 3", "i % len(b)", "len(b) - 1"])
def test_an_index_counts_from_the_end_where_it_is_negative(index: str) -> None:
    texts = [b"", b"\x00", b"\xff\x80\x7f", bytes(range(256))]

    compared(text_of(f"b[{index}]", "int", b="bytes", i="int"), "f", *itertools.product(texts, EDGES))


# -- any values


def function_of(expression: str, result: str, **params: str) -> tuple[Running, object]:
    text = text_of(expression, result, **params)
    return Running(compile_function(define(text)["f"].__wrapped__)), checked(text)["f"]


Pairs = dict[str, tuple[Running, object]]


@pytest.fixture(scope="module")
def whole() -> Pairs:
    """Give every operator of two ints; given back before the engine goes, as the others."""
    return {each: function_of(f"a {each} b", result_of(each), a="int", b="int") for each in INT_OPERATORS + COMPARISONS}


@pytest.fixture(scope="module")
def real() -> Pairs:
    return {
        each: function_of(f"a {each} b", "bool" if each in COMPARISONS else "float", a="float", b="float")
        for each in FLOAT_OPERATORS + COMPARISONS
    }


@pytest.fixture(scope="module")
def mixed() -> Pairs:
    return {each: function_of(f"a {each} b", "bool", a="int", b="float") for each in COMPARISONS}


def outcomes(pair: tuple[Running, object], *values: object) -> tuple[Outcome, Outcome]:
    return pair[0].outcome(*values), python_outcome(pair[1], *values)  # type: ignore[arg-type]


@settings(max_examples=300)
@given(st.sampled_from(INT_OPERATORS + COMPARISONS), ints, ints)
def test_any_two_ints(whole: Pairs, operator: str, a: int, b: int) -> None:
    found, expected = outcomes(whole[operator], a, b)

    assert found == expected


@settings(max_examples=300)
@given(st.sampled_from(FLOAT_OPERATORS + COMPARISONS), reals, reals)
def test_any_two_floats(real: Pairs, operator: str, a: float, b: float) -> None:
    found, expected = outcomes(real[operator], a, b)

    assert found == expected


@settings(max_examples=300)
@given(st.sampled_from(COMPARISONS), ints, st.integers(-3, 3), reals)
def test_an_int_is_compared_with_a_float_exactly(mixed: Pairs, operator: str, a: int, near: int, any_: float) -> None:
    close = struct.unpack("<d", struct.pack("<q", struct.unpack("<q", struct.pack("<d", float(a)))[0] + near))[0]

    for b in (any_, close):
        found, expected = outcomes(mixed[operator], a, b)
        assert found == expected
