"""Expressions of the subset, from Python's tree to the typed one.

What Python would decide at run time by the type of a value is decided here; where it cannot be, it is refused.
"""

from __future__ import annotations

import ast
import builtins
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from actorflow.errors import CompileError
from actorflow.wasm.compiler.signature import called_function, signature_of
from actorflow.wasm.compiler.source import MISSING, Source, source_of
from actorflow.wasm.compiler.tree import (
    INT_MAX,
    INT_MIN,
    Binary,
    Call,
    Choice,
    Compare,
    Constant,
    Convert,
    Expression,
    Extreme,
    Index,
    Length,
    Local,
    Logic,
    Signature,
    Unary,
)

OPERATORS: Mapping[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip
COMPARISONS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
CONSTRUCTS: Mapping[type[ast.AST], str] = {
    ast.ListComp: "a list comprehension", ast.SetComp: "a set comprehension", ast.DictComp: "a dict comprehension",
    ast.GeneratorExp: "a generator expression", ast.List: "a list", ast.Dict: "a dict", ast.Set: "a set",
    ast.Tuple: "a tuple that is not assigned to as many names", ast.JoinedStr: "an f-string", ast.NamedExpr: "':='",
    ast.Slice: "a slice", ast.Attribute: "an attribute", ast.Starred: "a starred expression", ast.Lambda: "'lambda'",
    ast.Yield: "'yield'", ast.YieldFrom: "'yield from'", ast.Await: "'await'", ast.AsyncFunctionDef: "'async def'",
    ast.AsyncFor: "'async for'", ast.AsyncWith: "'async with'", ast.FunctionDef: "a nested 'def'",
    ast.ClassDef: "'class'", ast.ImportFrom: "'import'", ast.Delete: "'del'", ast.AnnAssign: "an annotation here",
    ast.TryStar: "'try'", ast.MatMult: "'@'", ast.In: "'in'", ast.NotIn: "'not in'", ast.Is: "'is'",
    ast.IsNot: "'is not'", ast.Subscript: "an index of what is no parameter of bytes",
}  # fmt: skip
BITWISE = {"<<", ">>", "&", "|", "^"}
ROUNDINGS: Mapping[Any, str] = {
    math.floor: "floor", math.ceil: "ceil", math.trunc: "trunc", builtins.round: "round",
}  # fmt: skip
FLOAT_FUNCTIONS: Mapping[Any, tuple[str, type]] = {
    math.sqrt: ("sqrt", float), math.fabs: ("abs", float), math.isnan: ("isnan", bool), math.isinf: ("isinf", bool),
    math.isfinite: ("isfinite", bool),
}  # fmt: skip


@dataclass(slots=True)
class Scope:
    """What is known of the locals of a function at a place in it.

    types: of the locals that have one so far; names: all that are assigned anywhere, which Python takes for locals.
    assigned: those that surely have a value here, or None where nothing arrives.
    calls: the functions called so far, each once.
    """

    source: Source
    signature: Signature
    names: frozenset[str]
    types: dict[str, type]
    assigned: frozenset[str] | None
    calls: dict[FunctionType, Signature] = field(default_factory=dict)

    def outside(self, node: ast.AST, line: int) -> CompileError:
        """Return the error that names a construct."""
        name = CONSTRUCTS.get(type(node)) or f"'{type(node).__name__.lower()}'"
        return self.source.refusal(line, f"{name} is outside the subset that compiles to WASM")

    def view(self, node: ast.expr) -> str | None:
        """Return the name of a parameter of bytes, where the expression is one."""
        named = isinstance(node, ast.Name) and self.types.get(node.id) is bytes
        return node.id if isinstance(node, ast.Name) and named else None


class Expressions:
    """Types the expressions of one function. Every method raises CompileError for what is outside the subset."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._source = scope.source

    def value(self, node: ast.expr) -> Expression:
        """Return an expression that gives a number."""
        line = node.lineno
        match node:
            case ast.Constant():
                return self._constant(node.value, line)
            case ast.Name():
                return self._name(node.id, line)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self.binary(node.op, self.value(node.left), self.value(node.right), line)
            case ast.BoolOp():
                return self._logic(node, condition=False)
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                then, otherwise = self.value(node.body), self.value(node.orelse)
                self._same([then, otherwise], "the two values of a conditional expression", line)
                return Choice(then.type, line, self.condition(node.test), then, otherwise)
            case ast.Call():
                return self._call(node)
            case ast.Attribute():
                return self._constant_of(ast.unparse(node), self._attribute(node), line)
            case ast.Subscript() if (name := self._scope.view(node.value)) and not isinstance(node.slice, ast.Slice):
                return Index(int, line, name, self._whole(self.value(node.slice), "an index", line))
            case ast.Subscript(slice=ast.Slice()):
                raise self._scope.outside(node.slice, line)
        raise self._scope.outside(node, line)

    def condition(self, node: ast.expr) -> Expression:
        """Return an expression that gives whether another is true: the types in it may be mixed."""
        if isinstance(node, ast.BoolOp):
            return self._logic(node, condition=True)
        if (name := self._scope.view(node)) is not None:
            return Convert(bool, node.lineno, Length(int, node.lineno, name))
        return as_bool(self.value(node))

    def binary(self, operator: ast.operator, left: Expression, right: Expression, line: int) -> Expression:
        """Return what an operator makes of two values, converted as Python does."""
        sign = OPERATORS.get(type(operator))
        if sign is None:
            raise self._scope.outside(operator, line)
        if left.type is right.type is bool and sign in {"&", "|", "^"}:
            return Binary(bool, line, sign, left, right)
        left, right = as_int(left), as_int(right)
        if float not in {left.type, right.type}:
            return Binary(float if sign == "/" else int, line, sign, left, right)
        if sign in BITWISE:
            raise self._source.refusal(line, f"'{sign}' of a float", "ints; int(x) converts")
        if sign == "**":
            raise self._source.refusal(
                line, "'**' of floats is outside the subset: its last bits differ between machines", "ints, or x * x"
            )
        return Binary(float, line, sign, as_float(left), as_float(right))

    # -- leaves

    def _constant(self, value: object, line: int) -> Expression:
        if type(value) is bool or type(value) is float:
            return Constant(type(value), line, value)
        if type(value) is int:
            if not INT_MIN <= value <= INT_MAX:
                raise self._source.refusal(line, f"the int {value:#x} does not fit 64 bits", "-2**63 to 2**63 - 1")
            return Constant(int, line, value)
        raise self._source.refusal(
            line,
            f"a constant of type '{type(value).__name__}' is outside the subset that compiles to WASM",
            "int, float and bool",
        )

    def _constant_of(self, name: str, value: object, line: int) -> Expression:
        if type(value) in {int, float, bool}:
            return self._constant(value, line)
        if value is MISSING:
            raise self._source.refusal(line, f"the name '{name}' is not known here", "define it before the function")
        raise self._source.refusal(
            line,
            f"'{name}' is no number, but of type '{type(value).__name__}'",
            "names of the module that are int, float or bool",
        )

    def _name(self, name: str, line: int) -> Expression:
        if name not in self._scope.names:
            return self._constant_of(name, self._source.meaning(name), line)
        kind = self._scope.types.get(name)
        if kind is None or (self._scope.assigned is not None and name not in self._scope.assigned):
            raise self._source.refusal(
                line, f"'{name}' may be read before it is assigned", "assign it before, on every path"
            )
        if kind is bytes:
            raise self._source.refusal(
                line,
                f"'{name}' is of bytes, and no number",
                f"{name}[i], len({name}), for byte in {name}, or an argument of a call",
            )
        return Local(kind, line, name)

    def _attribute(self, node: ast.Attribute) -> Any:
        """Return what `math.…` stands for."""
        if isinstance(node.value, ast.Name) and node.value.id not in self._scope.names:
            module = self._source.meaning(node.value.id)
            if isinstance(module, ModuleType) and module is math:
                return getattr(math, node.attr, MISSING)
        raise self._source.refusal(
            node.lineno,
            f"the attribute '{ast.unparse(node)}' is outside the subset that compiles to WASM",
            "attributes of the module math",
        )

    # -- operators

    def _unary(self, node: ast.UnaryOp) -> Expression:
        line = node.lineno
        if isinstance(node.op, ast.Not):
            return Unary(bool, line, "not", self.condition(node.operand))
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            constant = node.operand.value
            if type(constant) in {int, float}:  # -2**63 has no positive counterpart
                return self._constant(-constant, line)  # type: ignore[operator]
        operand = as_int(self.value(node.operand))
        if isinstance(node.op, ast.UAdd):
            return operand
        if isinstance(node.op, ast.Invert):
            return Unary(int, line, "~", self._whole(operand, "'~'", line))
        return Unary(operand.type, line, "-", operand)

    def _logic(self, node: ast.BoolOp, *, condition: bool) -> Expression:
        sign = "and" if isinstance(node.op, ast.And) else "or"
        parts = [self.condition(each) if condition else self.value(each) for each in node.values]
        self._same(parts, f"the operands of '{sign}' whose value is used", node.lineno)
        *before, done = parts
        for part in reversed(before):
            done = Logic(part.type, part.line, sign, part, done)
        return done

    def _compare(self, node: ast.Compare) -> Expression:
        signs = []
        for operator in node.ops:
            sign = COMPARISONS.get(type(operator))
            if sign is None:
                raise self._scope.outside(operator, node.lineno)
            signs.append(sign)
        operands = tuple(as_int(self.value(each)) for each in (node.left, *node.comparators))
        return Compare(bool, node.lineno, tuple(signs), operands)

    def _same(self, parts: list[Expression], what: str, line: int) -> None:
        kinds = list(dict.fromkeys(part.type.__name__ for part in parts))
        if len(kinds) > 1:
            raise self._source.refusal(
                line, f"{what} are of types {' and '.join(kinds)}", "one type; int(x), float(x) and bool(x) convert"
            )

    def _whole(self, part: Expression, what: str, line: int) -> Expression:
        part = as_int(part)
        if part.type is not int:
            raise self._source.refusal(line, f"{what} of a float", "ints; int(x) converts")
        return part

    # -- calls

    def _call(self, node: ast.Call) -> Expression:
        line = node.lineno
        if node.keywords:
            raise self._source.refusal(
                line,
                f"the keyword argument of '{ast.unparse(node.func)}' is outside the subset",
                "positional arguments",
            )
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self._scope.outside(argument, line)
        if isinstance(node.func, ast.Attribute):
            called = self._attribute(node.func)
        elif isinstance(node.func, ast.Name) and node.func.id not in self._scope.names:
            called = None if self._source.names_itself(node.func.id) else self._source.meaning(node.func.id)
        else:
            raise self._source.refusal(
                line,
                f"a call of '{ast.unparse(node.func)}' is outside the subset",
                "calls of functions by the name they have in the module",
            )
        built_in = None
        if isinstance(called, (type, BuiltinFunctionType)):
            built_in = self._built_in(called, node, line)
        if built_in is not None:
            return built_in
        if not isinstance(node.func, ast.Name):
            raise self._source.refusal(
                line,
                f"the function '{ast.unparse(node.func)}' is outside the subset",
                "math.sqrt, floor, ceil, trunc, fabs, isnan, isinf, isfinite",
            )
        return self._call_of(called_function(self._source, node.func.id, line), node, line)

    def _built_in(self, called: object, node: ast.Call, line: int) -> Expression | None:
        """Return what a call of a function of Python gives, or None where the function is none of those known."""
        if called is len:
            (given,) = self._arguments(node, 1, "len")
            name = self._scope.view(given)
            if name is None:
                raise self._source.refusal(line, "'len' of what is no parameter of bytes", "parameters of bytes")
            return Length(int, line, name)
        if called in {min, max}:
            operands = tuple(self.value(each) for each in node.args)
            if len(operands) < 2:
                raise self._source.refusal(
                    line, f"'{called.__name__}' of {len(operands)} argument", "two or more numbers"
                )
            self._same(list(operands), f"the arguments of '{called.__name__}'", line)
            return Extreme(operands[0].type, line, called.__name__, operands)
        if called in {int, float, bool}:
            (given,) = self._arguments(node, 1, called.__name__)
            if called is float and isinstance(given, ast.Constant) and isinstance(given.value, str):
                return self._float_text(given.value, line)
            return self.condition(given) if called is bool else Convert(called, line, self.value(given))
        if called is abs:
            operand = as_int(self.value(*self._arguments(node, 1, "abs")))
            return Unary(operand.type, line, "abs", operand)
        if called in ROUNDINGS:
            operand = as_int(self.value(*self._arguments(node, 1, ROUNDINGS[called])))
            return operand if operand.type is int else Unary(int, line, ROUNDINGS[called], operand)
        if called in FLOAT_FUNCTIONS:
            name, kind = FLOAT_FUNCTIONS[called]
            return Unary(kind, line, name, as_float(as_int(self.value(*self._arguments(node, 1, name)))))
        return None

    def _arguments(self, node: ast.Call, count: int, name: str) -> list[ast.expr]:
        if len(node.args) != count:
            raise self._source.refusal(
                node.lineno, f"'{name}' with {len(node.args)} arguments is outside the subset", f"exactly {count}"
            )
        return node.args

    def _float_text(self, text: str, line: int) -> Expression:
        try:
            return Constant(float, line, float(text))
        except ValueError:
            raise self._source.refusal(line, f"float({text!r}) raises ValueError", "a number, 'inf', 'nan'") from None

    def _call_of(self, function: FunctionType, node: ast.Call, line: int) -> Expression:
        name = function.__name__
        if function is self._source.function:
            signature = self._scope.signature
        else:
            signature = self._scope.calls.get(function) or signature_of(source_of(function))
        self._scope.calls[function] = signature
        if len(node.args) != len(signature.params):
            raise self._source.refusal(
                line,
                f"'{name}' is called with {len(node.args)} arguments",
                f"it has {len(signature.params)} parameters",
            )
        arguments: list[Expression] = []
        for given, (parameter, kind) in zip(node.args, signature.params.items(), strict=True):
            view = self._scope.view(given)
            argument = self.value(given) if view is None else Local(bytes, line, view)
            if argument.type is not kind:
                raise self._source.refusal(
                    line,
                    f"the argument '{parameter}' of '{name}' is of type {argument.type.__name__}",
                    f"it is declared {kind.__name__}; convert it",
                )
            arguments.append(argument)
        return Call(signature.result, line, function, tuple(arguments))


def as_int(part: Expression) -> Expression:
    """Return a bool as an int, which is what arithmetic makes of it."""
    return Convert(int, part.line, part) if part.type is bool else part


def as_float(part: Expression) -> Expression:
    """Return a value as a float; a constant as the constant, which Python rounds in the same way."""
    if part.type is float:
        return part
    if isinstance(part, Constant):
        return Constant(float, part.line, float(part.value))
    return Convert(float, part.line, part)


def as_bool(part: Expression) -> Expression:
    """Return whether a value is true."""
    return part if part.type is bool else Convert(bool, part.line, part)
