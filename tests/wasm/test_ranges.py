"""Bounds are never too narrow: whatever a value may be lies within them."""

from __future__ import annotations

import contextlib
import itertools
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorflow.wasm.compiler import ranges
from actorflow.wasm.compiler.ranges import Ranges
from actorflow.wasm.compiler.source import source_of
from actorflow.wasm.compiler.subset import function_of
from actorflow.wasm.compiler.tree import INT_MAX, INT_MIN
from tests.wasm.programs import INTS
from tests.wasm.running import define, fits, power, shifted

OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "//": lambda a, b: a // b,
    "%": lambda a, b: a % b, "<<": shifted, ">>": lambda a, b: a >> min(b, 100), "&": lambda a, b: a & b,
    "|": lambda a, b: a | b, "^": lambda a, b: a ^ b, "**": power,
}  # fmt: skip
near = st.integers(-9, 9)
ints = near | st.sampled_from(INTS) | st.integers(INT_MIN, INT_MAX)
bounds = st.tuples(near, near) | st.tuples(ints, ints)


@given(st.sampled_from(sorted(OPERATORS)), bounds.map(sorted), bounds.map(sorted), st.data())
def test_what_an_operator_gives_lies_within_its_bounds(
    sign: str, one: list[int], other: list[int], data: st.DataObject
) -> None:
    low, high = ranges._binary(sign, (one[0], one[1]), (other[0], other[1]))
    drawn = [(data.draw(st.integers(*one)), data.draw(st.integers(*other))) for _ in range(5)]

    for a, b in (*itertools.product(one, other), *drawn):
        with contextlib.suppress(ArithmeticError, ValueError):  # there is no value
            assert low <= fits(OPERATORS[sign](a, b)) <= high, (a, sign, b)


@pytest.mark.parametrize("sign", sorted(OPERATORS))
def test_what_an_operator_gives_of_small_ints_lies_within_its_bounds(sign: str) -> None:
    pairs = [(low, high) for low in range(-5, 6) for high in range(low, 6)]

    for one, other in itertools.product(pairs, pairs):
        low, high = ranges._binary(sign, one, other)
        for a, b in itertools.product(range(one[0], one[1] + 1), range(other[0], other[1] + 1)):
            with contextlib.suppress(ArithmeticError, ValueError):
                assert low <= OPERATORS[sign](a, b) <= high, (one, sign, other)


@given(st.sampled_from(["-", "~", "abs"]), bounds.map(sorted), st.data())
def test_what_a_sign_gives_lies_within_its_bounds(sign: str, of: list[int], data: st.DataObject) -> None:
    low, high = ranges._unary(sign, (of[0], of[1]))

    for value in (*of, data.draw(st.integers(*of))):
        result = {"-": -value, "~": ~value, "abs": abs(value)}[sign]
        assert low <= result <= high


def bounds_of(body: str, name: str) -> ranges.Bounds:
    text = "def f(a: int, b: int) -> int:\n" + textwrap.indent(body, "    ") + "\n    return 0\n"
    return Ranges(function_of(source_of(define(text)["f"])))._locals[name]


@pytest.mark.parametrize(("bounds_text", "expected"), [
    ("10", (0, 9)), ("a", (0, INT_MAX - 1)), ("a & 7, 20", (0, 19)), ("3, a & 7", (3, 6)), ("a & 7, -5, -2", (-4, 7)),
    ("0, 100, a", (0, 99)), ("-3, 3, a % 5 - 2", (-3, 2)), ("9, 0, a", (1, 9)), ("a, b, -1", (INT_MIN + 1, INT_MAX)),
])  # fmt: skip
def test_the_variable_of_a_range_lies_between_its_ends(bounds_text: str, expected: ranges.Bounds) -> None:
    low, high = bounds_of(f"for i in range({bounds_text}):\n    pass", "i")

    assert low <= expected[0]
    assert expected[1] <= high


@pytest.mark.parametrize(("body", "expected"), [
    ("x = 3\nx = -2", (-2, 3)), ("x = 0\nwhile a:\n    x = (x * 7 + 1) % 100", (0, 99)), ("x = a & 15", (0, 15)),
    ("x = 1\nfor i in range(9):\n    x = x + x", (INT_MIN, INT_MAX)), ("x = 5 if a else 700", (5, 700)),
    ("x, y = 1, 2\nfor i in range(a):\n    x, y = y, x", (1, 2)), ("x = min(a, 3)\nx = max(b, -3)", (INT_MIN, INT_MAX)),
    ("x = 1\nx += 300", (INT_MIN, INT_MAX)), ("x = int(a < 3)", (0, 1)), ("x = a and 3", (INT_MIN, INT_MAX)),
])  # fmt: skip
def test_a_local_has_the_bounds_of_all_that_it_is_assigned(body: str, expected: ranges.Bounds) -> None:
    assert bounds_of(body, "x") == expected
