"""What a compiled function does, beyond single operators; what its module looks like to a host."""

from __future__ import annotations

import itertools
import json
import textwrap
from types import FunctionType
from typing import Any

import pytest

from actorflow.wasm.binary import custom_section
from actorflow.wasm.compiler import Compiled, compile_function
from actorflow.wasm.compiler.traps import MESSAGES, TRAP_GLOBAL, TRAPS, trap_of
from tests.wasm.running import Running, compared, define, engine, run, wasm, wasmtime

STEP = 3
HALF = 0.5


@wasm
def collatz(n: int) -> int:
    """Return how many steps it takes to come to 1."""
    count = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else STEP * n + 1
        count += 1
    return count


@wasm
def checksum(data: bytes) -> int:
    a, b = 1, 0
    for byte in data:
        a = (a + byte) % 65521
        b = (b + a) % 65521
    return b << 16 | a


@wasm
def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@wasm
def down(n: int) -> int:
    if n == 0:
        return 0
    return down(n - 1) + 1


@wasm
def root(x: float) -> float:
    guess = x * HALF
    for _ in range(40):
        guess = (guess + x / guess) * HALF
    return guess


@wasm
def distance(a: float, b: float) -> float:
    return abs(root(a) - root(b))


@wasm
def first(data: bytes, n: int) -> int:
    return data[n]


@wasm
def ends(one: bytes, other: bytes) -> int:
    return first(one, 0) * 256 + first(other, -1)


def plain(function: Any) -> FunctionType:
    made: FunctionType = function.__wrapped__
    return made


def module(function: Any) -> Compiled:
    return compile_function(plain(function))


# -- what it does


@pytest.mark.parametrize(("function", "inputs"), [
    (collatz, [(1,), (27,), (97,), (2**30 - 1,)]),
    (fibonacci, [(0,), (1,), (15,)]),
    (root, [(2.0,), (1e10,), (-3.0,)]),
    (distance, [(2.0, 9.0)]),
    (checksum, [(b"",), (b"Wikipedia",), (bytes(range(256)) * 40,)]),
    (ends, [(b"ab", b"cd"), (b"\xff", b"\xff")]),
])  # fmt: skip
def test_a_function_gives_what_it_gives_in_python(function: Any, inputs: list[tuple[Any, ...]]) -> None:
    running = Running(module(function))

    for values in inputs:
        assert running.raw(*values) == function(*values)


LOOPS = {
    "the variable of a range keeps its last value": """
        i = -1
        for i in range(a, b, c):
            pass
        return i
    """,
    "a range is what it was at the start": """
        count = 0
        for i in range(a, b, c):
            a, b, c = 0, 0, 1
            count += 1
            if count > 50:
                break
        return count * 1000 + a
    """,
    "an assignment to the variable does not alter the trips": """
        total = 0
        for i in range(a, b, c):
            total += i % 1000
            i = 7
            if total > 10000:
                return -1
        return total
    """,
    "continue goes on and break leaves": """
        total = 0
        for i in range(a, b, c):
            if i % 3 == 0:
                continue
            if i % 17 == 0 or total > 500:
                break
            total += i % 100
        return total
    """,
    "loops nest": """
        total = 0
        for i in range(5):
            k = 0
            while True:
                k += 1
                if k > i:
                    break
                for j in range(k):
                    if j == a:
                        continue
                    total += i * j + k
        return total
    """,
}


@pytest.mark.parametrize("body", LOOPS.values(), ids=LOOPS)
def test_a_loop_goes_as_in_python(body: str) -> None:
    text = "@wasm\ndef f(a: int, b: int, c: int) -> int:\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ")
    small = [-2, 0, 1, 7]
    top = (1 << 63) - 1
    edges = [(top - 10, top, step) for step in (1, 3, 4, top)] + [(-top, -top - 1, -1), (-top + 9, -top - 1, -4),
             (-top - 1, top, top), (top, -top - 1, -top - 1), (-top - 1, top, 1 << 62)]  # fmt: skip

    compared(text + "\n", "f", *itertools.product(small, small, [-3, -1, 0, 1, 2]), *edges)


@pytest.mark.parametrize("bounds", [
    "a, 9223372036854775807, 4", "a, -9223372036854775808, -4",
    "9223372036854775807 - (a & 15), 9223372036854775807, 7",
    "a & 15", "5, a & 15, 2", "a & 15, -3, -2", "0", "3, 0", "0, 10, 3", "True", "a > 3, 5",
])  # fmt: skip
def test_a_range_ends_where_it_should(bounds: str) -> None:
    body = "    n += 1\n        if n > 99:\n            break\n    return i ^ n\n"
    text = f"@wasm\ndef f(a: int) -> int:\n    n = i = 0\n    for i in range({bounds}):\n    {body}"
    top = (1 << 63) - 1

    compared(text, "f", *((value,) for value in (0, 1, 5, 9, 15, -1, top, top - 1, top - 6, -top - 1, -top, -top + 5)))


@pytest.mark.parametrize("body", [
    "a, b = b, a\nreturn a * 10 + b", "a = b = a + 1\nreturn a * 10 + b", "a, a = 1, 2\nreturn a",
    "a, b = 5 // a, b\nreturn a",
    "for i in range(4):\n    z = i\nreturn z", "if a:\n    z = 1\nelse:\n    z = 2\nreturn z", "return a\na = 5",
    "while True:\n    a += 1\n    if a > 3:\n        return a", "z: int\nz = a\nreturn z",
    "_ = a // b\nreturn 1", "a // b\nreturn 1",
    "if a < 0:\n    return 1\nelif a == 0:\n    return 2\nelse:\n    return 3", "pass\nreturn -a",
    "return a if a else b",
    "z = 1.5\nz *= a\nz += True\nreturn int(z)", "p = a < b\np &= a > 0\nreturn int(p)",
])  # fmt: skip
def test_a_statement_does_what_it_does_in_python(body: str) -> None:
    text = "@wasm\ndef f(a: int, b: int) -> int:\n" + textwrap.indent(body, "    ") + "\n"

    compared(text, "f", *itertools.product([-2, 0, 1, 3], repeat=2))


def test_the_operand_that_decides_is_the_last_that_is_evaluated() -> None:
    text = "@wasm\ndef f(a: int) -> bool:\n    return a == 0 or 10 // a > 2 and not a > 3\n"

    compared(text, "f", *((value,) for value in range(-1, 6)))


def test_bytes_are_true_where_there_are_any() -> None:
    text = (
        "@wasm\ndef f(b: bytes) -> int:\n    n = 0\n    if b and not b[0]:\n        n = 1\n    return n if b else -1\n"
    )

    compared(text, "f", (b"",), (b"\x00",), (b"\x01",))


def test_names_are_those_of_the_functions_around_too() -> None:
    factor, limit = 3, 2.5

    def scaled(x: int) -> float:
        return x * factor + limit

    assert run(scaled, 2) == run(compile_from("def f(x: int) -> float:\n    return x * 3 + 2.5\n"), 2)


def compile_from(text: str) -> FunctionType:
    made: FunctionType = define(text)["f"]
    return made


# -- what stops it


@pytest.mark.parametrize(("expression", "kind"), [
    ("a + 9223372036854775807", OverflowError), ("1 // (a - 1)", ZeroDivisionError), ("1 << -a", ValueError),
    ("b[a]", IndexError), ("f(a + 1, b)", RecursionError), ("int(float('nan') * a)", ValueError),
    ("int(1e300 * a)", OverflowError), ("2 ** -a", ValueError), ("(a - 1) ** -a", ZeroDivisionError),
])  # fmt: skip
def test_a_trap_has_the_name_and_the_line_of_the_exception(expression: str, kind: type[Exception]) -> None:
    text = f"@wasm\ndef f(a: int, b: bytes) -> int:\n    c = a\n    return {expression}\n"

    assert run(define(text)["f"], 1, b"x") == ("raises", (kind, 4))


def test_a_trap_in_a_called_function_has_the_line_there() -> None:
    text = "@wasm\ndef g(a: int) -> int:\n    return 1 // a\n\n@wasm\ndef f(a: int) -> int:\n    return g(a)\n"

    assert run(define(text)["f"], 0) == ("raises", (ZeroDivisionError, 3))


def test_a_call_after_a_trap_begins_anew() -> None:
    running = Running(module(down))

    deep = running.outcome(5000)

    assert deep[1][0] is RecursionError
    assert running.raw(900) == 900
    assert running.exports[TRAP_GLOBAL].value(running.store) == 0
    assert running.outcome(1 << 40)[1][0] is RecursionError
    assert running.raw(900) == 900


def test_functions_that_call_one_another_have_one_depth() -> None:
    space = define(
        "@wasm\ndef odd(n: int) -> bool:\n    return False if n == 0 else even(n - 1)\n"
        "@wasm\ndef even(n: int) -> bool:\n    return True if n == 0 else odd(n - 1)\n"
    )

    assert run(space["even"], 900)[1] == (bool, True)
    assert run(space["even"], 901)[1] == (bool, False)
    assert run(space["even"], 1200)[1][0] is RecursionError


def test_every_kind_of_trap_has_its_exception_and_its_words() -> None:
    assert {kind: trap_of(12 << 8 | kind) for kind in TRAPS} == {kind: (TRAPS[kind], 12) for kind in TRAPS}
    assert set(MESSAGES) == set(TRAPS)
    assert [trap_of(value) for value in (0, 99, -1, 7 << 8)] == [None] * 4


# -- what a host sees


def test_a_compiled_function_says_what_it_is() -> None:
    made = module(ends)

    assert (made.export, made.params, made.result) == ("ends", (bytes, bytes), int)


def test_the_types_are_in_a_section_of_the_module() -> None:
    text = "def f(a: int, b: float, c: bool, d: bytes) -> bool:\n    return c\n"

    section = custom_section(compile_function(define(text)["f"]).module, "actorflow.types")

    assert section is not None
    assert json.loads(section) == {"f": {"params": ["int", "float", "bool", "bytes"], "result": "bool"}}


def exports(made: Compiled) -> dict[str, str]:
    module_ = wasmtime().Module(engine(), made.module)
    return {each.name: type(each.type).__name__ for each in module_.exports}


def test_only_the_function_itself_and_its_trap_are_exported() -> None:
    assert exports(module(distance)) == {"distance": "FuncType", TRAP_GLOBAL: "GlobalType"}


def test_a_memory_is_there_where_a_parameter_is_of_bytes() -> None:
    made = module(checksum)

    running = Running(made)

    assert set(exports(made)) == {"checksum", TRAP_GLOBAL, "memory", "__heap_base"}
    assert running.exports["memory"].size(running.store) == 1
    assert running.exports["__heap_base"].value(running.store) == 0


@pytest.mark.parametrize("function", [collatz, checksum, fibonacci, distance, ends])
def test_the_same_source_is_the_same_bytes(function: Any) -> None:
    assert module(function) == module(function)


def test_two_files_with_the_same_text_are_the_same_bytes() -> None:
    text = "def f(a: int, b: float) -> float:\n    return a ** 3 % b / (a // 7)\n"

    assert compile_function(define(text)["f"]) == compile_function(define(text)["f"])


def test_a_name_that_is_the_function_itself_only_in_another_scope_is_looked_up() -> None:
    text = (
        "def outer():\n"
        "    f = helper\n"
        "    class A:\n"
        "        def f(x: int) -> int:\n"
        "            return f(x) + 1\n"
        "    return A.f\n"
        "@wasm\ndef helper(x: int) -> int:\n    return 10 * x\n"
    )

    assert run(define(text)["outer"](), 4)[1] == (int, 41)


def test_a_function_in_a_function_calls_itself() -> None:
    @wasm
    def factorial(n: int) -> int:
        return 1 if n <= 1 else n * factorial(n - 1)

    assert run(factorial, 20)[1] == (int, 2432902008176640000)
    assert run(factorial, 21)[1][0] is OverflowError
