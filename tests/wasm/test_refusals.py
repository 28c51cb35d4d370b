"""What is outside the subset is refused: the message names file, line, reason and what is allowed."""

from __future__ import annotations

import functools
import linecache
import math
import re
import textwrap
from typing import Any

import pytest

from actorflow import CompileError
from actorflow.wasm.compiler import compile_function
from tests.wasm.running import define, wasm

HEAD = "def f(x: int, y: float, p: bool, b: bytes) -> int:"

REFUSED = [
    # a statement of other kinds
    ("try:\n    x = 1\nexcept ValueError:\n    x = 2", 2, "'try' is outside the subset"),
    ("with x:\n    pass", 2, "'with' is outside"),
    ("raise ValueError", 2, "'raise' is outside"),
    ("assert x", 2, "'assert' is outside"),
    ("import math", 2, "'import' is outside"),
    ("from math import sqrt", 2, "'import' is outside"),
    ("class A:\n    pass", 2, "'class' is outside"),
    ("def g() -> int:\n    return 1", 2, "a nested 'def' is outside"),
    ("async def g() -> int:\n    return 1", 2, "'async def' is outside"),
    ("global z\nz = 1", 2, "'global' is outside"),
    ("del x", 2, "'del' is outside"),
    ("match x:\n    case 1:\n        pass", 2, "'match' is outside"),
    ("for i in [1, 2]:\n    pass", 2, "'for' over '[1, 2]' is outside"),
    ("for i in range(3):\n    pass\nelse:\n    x = 1", 5, "'else' of a loop is outside"),
    ("while x:\n    x = 0\nelse:\n    x = 1", 5, "'else' of a loop is outside"),
    ("for i in range(1, 2, 0):\n    pass", 2, "a range with step 0"),
    ("for i in range(y):\n    pass", 2, "a range of floats"),
    ("for i, j in range(3):\n    pass", 2, "an assignment to a tuple is outside"),
    ("yield x", 2, "'yield' is outside"),
    # assignments
    ("x = 1.5", 2, "'x' is int and is assigned float"),
    ("x = True", 2, "'x' is int and is assigned bool"),
    ("y = 1", 2, "'y' is float and is assigned int"),
    ("x += 1.5", 2, "'x' is int and is assigned float"),
    ("x /= 2", 2, "'x' is int and is assigned float"),
    ("for y in range(3):\n    pass", 2, "'y' is float and is assigned int"),
    ("z: float = 1", 2, "'z' is float and is assigned int"),
    ("z: str = x", 2, "the local 'z' is annotated with 'str'"),
    ("x: float = 1.0", 2, "'x' is int and is assigned float"),
    ("b = x", 2, "'b' is bytes and is assigned int"),
    ("z = b", 2, "'b' is of bytes, and no number"),
    ("b[0] = 1", 2, "an assignment to an index of what is no parameter of bytes is outside"),
    ("x.real = 1", 2, "an assignment to an attribute is outside"),
    ("x, z = 1, 2, 3", 2, "3 values are assigned to 2 names"),
    ("x, *z = 1, 2", 2, "an assignment to a starred expression is outside"),
    ("x, z = x", 2, "an assignment to a tuple is outside"),
    ("if x:\n    z = 1\nx = z", 4, "'z' may be read before it is assigned"),
    ("while x:\n    z = 1\nx = z", 4, "'z' may be read before it is assigned"),
    ("for i in range(x):\n    pass\nx = i", 4, "'i' may be read before it is assigned"),
    ("for i in range(3):\n    if i:\n        break\n    z = 1\nx = z", 6, "'z' may be read before it is assigned"),
    ("z += 1", 2, "'z' may be read before it is assigned"),
    ("z: int\nx = z", 3, "'z' may be read before it is assigned"),
    # expressions
    ("x = lambda: 1", 2, "'lambda' is outside"),
    ("x = [1]", 2, "a list is outside"),
    ("x = {1: 2}", 2, "a dict is outside"),
    ("x = {1}", 2, "a set is outside"),
    ("x = (1, 2)", 2, "a tuple that is not assigned to as many names is outside"),
    ("x = [i for i in range(3)]", 2, "a list comprehension is outside"),
    ("x = sum(i for i in range(3))", 2, "'sum'"),
    ("x = 'a'", 2, "a constant of type 'str' is outside"),
    ("x = b'a'", 2, "a constant of type 'bytes' is outside"),
    ("x = 1j", 2, "a constant of type 'complex' is outside"),
    ("x = None", 2, "a constant of type 'NoneType' is outside"),
    ("...", 2, "a constant of type 'ellipsis' is outside"),
    ("x = f'{x}'", 2, "an f-string is outside"),
    ("x = (z := 1)", 2, "':=' is outside"),
    ("x = b[0:1]", 2, "a slice is outside"),
    ("x = x[0]", 2, "an index of what is no parameter of bytes is outside"),
    ("x = b[y]", 2, "an index of a float"),
    ("x = x.real", 2, "the attribute 'x.real' is outside"),
    ("x = math.tau.real", 2, "the attribute 'math.tau.real' is outside"),
    ("x = int(1 in b)", 2, "'in' is outside"),
    ("x = int(x is 1)", 2, "'is' is outside"),
    ("x = x @ x", 2, "'@' is outside"),
    ("x = z", 2, "the name 'z' is not known here"),
    ("x = text", 2, "'text' is no number, but of type 'str'"),
    ("x = large", 2, "the int 0x10000000000000000 does not fit 64 bits"),
    ("x = 9223372036854775808", 2, "the int 0x8000000000000000 does not fit 64 bits"),
    ("x = -9223372036854775809", 2, "does not fit 64 bits"),
    ("x = int(y & 1)", 2, "'&' of a float"),
    ("x = int(~y)", 2, "'~' of a float"),
    ("y = y ** 2", 2, "'**' of floats is outside the subset: its last bits differ between machines"),
    ("x = x or p", 2, "the operands of 'or' whose value is used are of types int and bool"),
    ("x = x if p else y", 2, "the two values of a conditional expression are of types int and float"),
    ("x = int(min(x, y))", 2, "the arguments of 'min' are of types int and float"),
    ("x = max(x)", 2, "'max' of 1 argument"),
    # calls
    ("x = int(x, base=2)", 2, "the keyword argument of 'int' is outside"),
    ("x = int(x, 2)", 2, "'int' with 2 arguments is outside"),
    ("x = int()", 2, "'int' with 0 arguments is outside"),
    ("x = max(*b)", 2, "a starred expression is outside"),
    ("y = round(y, 2)", 2, "'round' with 2 arguments is outside"),
    ("x = int('1')", 2, "a constant of type 'str' is outside"),
    ("y = float('one')", 2, "float('one') raises ValueError"),
    ("x = len(x)", 2, "'len' of what is no parameter of bytes"),
    ("print(x)", 2, "a call of 'print', which is <built-in function print>, is outside"),
    ("y = math.sin(y)", 2, "the function 'math.sin' is outside"),
    ("y = plain(y)", 2, "'plain' is a plain function of Python"),
    ("y = wrapped(y)", 2, "'wrapped' is a plain function of Python"),
    ("y = cached(y)", 2, "a call of 'cached', which is <functools._lru_cache_wrapper"),
    ("x = g(y)", 2, "the argument 'x' of 'g' is of type float"),
    ("x = g(p)", 2, "the argument 'x' of 'g' is of type bool"),
    ("x = g(b)", 2, "the argument 'x' of 'g' is of type bytes"),
    ("x = g(x, x)", 2, "'g' is called with 2 arguments"),
    ("x = later(x)", 2, "the name 'later' is not known here"),
    ("x = x(1)", 2, "a call of 'x' is outside"),
    ("x = f(x)(x)", 2, "a call of 'f(x)' is outside"),
    # results
    ("return y", 2, "float is returned, and int declared"),
    ("return p", 2, "bool is returned, and int declared"),
    ("return", 2, "'return' without a value"),
]


@wasm
def g(x: int) -> int:
    return x


def plain(y: float) -> float:
    return y


@functools.wraps(plain)
def wrapped(y: float) -> float:
    return plain(y) + 1


NAMES: dict[str, Any] = {
    "g": g, "plain": plain, "wrapped": wrapped, "cached": functools.cache(plain), "text": "a", "large": 1 << 64,
}  # fmt: skip


def refused(text: str, name: str = "f") -> CompileError:
    function = define(text, **NAMES)[name]
    with pytest.raises(CompileError) as caught:
        compile_function(getattr(function, "__wrapped__", function))
    return caught.value


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize(("body", "line", "reason"), REFUSED, ids=lambda part: str(part).partition("\n")[0])
def test_a_construct_outside_the_subset_is_refused(body: str, line: int, reason: str) -> None:
    indented = textwrap.indent(f"{body}\nreturn x", "    ")

    error = refused(f"{HEAD}\n{indented}\n")

    assert re.match(r"made_\d+\.py, line (\d+): ", error.message), error.message
    assert reason in error.message
    assert error.line == line
    assert f"line {line}: " in error.message
    assert error.file is not None
    assert error.file.startswith("made_")
    assert error.message.endswith(")")  # what is allowed


def test_the_message_says_what_is_allowed() -> None:
    error = refused("\n\ndef f(x: int) -> int:\n    try:\n        return x\n    finally:\n        pass\n")

    assert error.message.partition(".py, ")[2] == (
        "line 4: 'try' is outside the subset that compiles to WASM (assignments, if, while, for over range, return, "
        "calls of other @wasm functions)"
    )


@pytest.mark.parametrize(("head", "reason"), [
    ("def f(x) -> int:", "the parameter 'x' has no annotation"),
    ("def f(x: int):", "the result of 'f' has no annotation"),
    ("def f(x: str) -> int:", "the parameter 'x' is annotated with 'str'"),
    ("def f(x: 'no type') -> int:", "the parameter 'x' is annotated with"),
    ("def f(x: list[int]) -> int:", "the parameter 'x' is annotated with 'list[int]'"),
    ("def f(x: int) -> bytes:", "the result is annotated with 'bytes' (annotate it with int, float or bool)"),
    ("def f(x: int) -> None:", "the result is annotated with 'None'"),
    ("def f(*x: int) -> int:", "'*x' is outside"),
    ("def f(**x: int) -> int:", "'**x' is outside"),
    ("def f(*, x: int) -> int:", "the keyword-only parameter 'x' is outside"),
    ("def f(x: int = 1) -> int:", "a default argument is outside"),
    ("@staticmethod\ndef f(x: int) -> int:", "the decorator '@staticmethod' is outside"),
    ("@wasm\n@plain\ndef f(x: int) -> int:", "the decorator '@plain' is outside"),
    ("async def f(x: int) -> int:", "'async def' is outside"),
])  # fmt: skip
def test_a_first_line_outside_the_subset_is_refused(head: str, reason: str) -> None:
    assert reason in refused(f"{head}\n    return 1\n").message


@pytest.mark.parametrize("body", [
    "if x:\n    return 1", "while x:\n    return 1", "for i in range(x):\n    return 1", "pass",
    "while True:\n    if x:\n        break\n    x = 1", "if x:\n    return 1\nelif x:\n    pass\nelse:\n    return 2",
])  # fmt: skip
def test_a_path_without_a_return_is_refused(body: str) -> None:
    text = "def f(x: int) -> int:\n" + textwrap.indent(body, "    ")

    error = refused(text)

    assert "'f' may come to its end without a return" in error.message
    assert error.line == len(text.splitlines())


@pytest.mark.parametrize("thing", [len, 5, int, functools.partial(plain, 1.0), g])
def test_what_is_no_plain_function_is_refused(thing: object) -> None:
    with pytest.raises(CompileError, match="is no Python function"):
        compile_function(thing)


def test_a_lambda_is_refused() -> None:
    with pytest.raises(CompileError, match=r"test_refusals\.py, line \d+: 'lambda'.* is outside the subset"):
        compile_function(lambda x: x)


def test_a_function_without_source_is_refused() -> None:
    space: dict[str, Any] = {}
    exec("def f(x: int) -> int:\n    return x\n", space)

    with pytest.raises(CompileError, match="the source of f cannot be read"):
        compile_function(space["f"])


def test_a_source_that_is_not_what_runs_is_refused() -> None:
    function = define("def f(x: int) -> int:\n    return x + 1\n")["f"]
    changed = "def f(x: int) -> int:\n    return x + 2\n"
    linecache.cache[function.__code__.co_filename] = (len(changed), None, changed.splitlines(keepends=True), "f")

    with pytest.raises(CompileError, match="the source of 'f' is not what runs"):
        compile_function(function)


def test_a_refusal_in_a_called_function_names_its_place() -> None:
    error = refused("@wasm\ndef h(x: int) -> int:\n    return [x]\n\n@wasm\ndef f(x: int) -> int:\n    return h(x)\n")

    assert error.line == 3


def test_an_expression_that_is_nested_too_deeply_is_refused() -> None:
    error = refused(f"def f(x: int) -> int:\n    return {' + '.join(['x'] * 900)}\n")

    assert "nested too deeply" in error.message


@pytest.mark.parametrize("name", ["memory", "actorflow_trap", "__heap_base"])
def test_a_function_cannot_have_the_name_of_another_export(name: str) -> None:
    assert "is the name of" in refused(f"def {name}(b: bytes) -> int:\n    return len(b)\n", name).message


def test_a_private_name_in_a_class_is_not_taken_for_that_of_the_module() -> None:
    space = define("__k = 5\nclass A:\n    def f(x: int) -> int:\n        return __k\n")

    with pytest.raises(CompileError, match="the name '__k' is not known here"):
        compile_function(space["A"].f)


def test_math_is_the_module_and_no_other_thing_of_that_name() -> None:
    function = define("def f(y: float) -> float:\n    return math.sqrt(y)\n", math=textwrap)["f"]

    with pytest.raises(CompileError, match=r"the attribute 'math\.sqrt' is outside"):
        compile_function(function)
    assert math.sqrt(4) == 2
