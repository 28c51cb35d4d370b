"""From the typed tree to instructions: expressions leave their value on the stack, statements leave nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType

from actorflow.wasm.compiler import integers
from actorflow.wasm.compiler.body import DEPTH_INDEX, Body, Operand
from actorflow.wasm.compiler.ranges import Ranges
from actorflow.wasm.compiler.tree import (
    Binary,
    Call,
    Choice,
    Compare,
    Constant,
    Convert,
    Expression,
    Extreme,
    Function,
    Index,
    Length,
    Local,
    Logic,
    Unary,
)

KINDS: dict[type, str] = {int: "i64", float: "f64", bool: "i32"}
DEPTH_MAX = 1000
"""Calls within calls of functions that call themselves, through others too, before they are a RecursionError."""

EXACT = 1 << 53
"""Every int up to here is a float."""

_INT = {"==": "eq", "!=": "ne", "<": "lt_s", "<=": "le_s", ">": "gt_s", ">=": "ge_s"}
_FLOAT = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_ORDER = {
    "==": "i32.eqz", "!=": "i32.eqz i32.eqz", "<": "i32.const -1 i32.eq", "<=": "i32.const 0 i32.le_s",
    ">": "i32.const 1 i32.eq", ">=": "i32.const 2 i32.lt_u",
}  # fmt: skip
_TURNED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_FLOAT_OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_BOOL_OPERATORS = {"&": "and", "|": "or", "^": "xor"}
_TO_WHOLE = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "nearest"}  # half to even, as Python's
_CLASSES = {"isinf": "f64.abs f64.const inf f64.eq", "isfinite": "f64.abs f64.const inf f64.lt"}


def params_of(function: Function) -> list[str]:
    """Return the types of WebAssembly of a function's parameters: bytes are where they begin, and how many."""
    kinds: list[str] = []
    for kind in function.signature.params.values():
        kinds += ["i32", "i32"] if kind is bytes else [KINDS[kind]]
    return kinds


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers that functions and routines have in the module, and which functions may call the one at hand."""

    function: Mapping[FunctionType, int]
    routine: Callable[[str], int]
    callers: frozenset[FunctionType]


class Values:
    """Writes the expressions of one function."""

    def __init__(self, function: Function, numbers: Numbers) -> None:
        self.body = Body(params_of(function), numbers.routine)
        self.ranges = Ranges(function)
        self._numbers = numbers
        self.locals: dict[str, int] = {}
        number = 0
        for name, kind in function.locals.items():
            if name in function.signature.params:
                self.locals[name] = number
                number += 2 if kind is bytes else 1
            else:
                self.locals[name] = self.body.local(KINDS[kind])

    def held(self, node: Expression) -> Operand:
        """Write a value so that it can be read again, until the temporaries are released."""
        bounds = self.ranges.of(node) if node.type is int else (0, 0)
        if isinstance(node, Constant):
            return Operand(_constant(node), bounds)
        if isinstance(node, Local):
            return Operand(f"local.get {self.locals[node.name]}", bounds)
        self.value(node)
        return Operand(self.body.keep(KINDS[node.type]), bounds)

    def value(self, node: Expression) -> None:
        """Write what leaves a value on the stack."""
        mark = self.body.taken()
        match node:
            case Constant():
                self.body.put(_constant(node))
            case Local(type=kind, name=name):
                self.body.put(f"local.get {self.locals[name]}")
                if kind is bytes:
                    self.body.put(f"local.get {self.locals[name] + 1}")
            case Convert():
                self._convert(node)
            case Unary():
                self._unary(node)
            case Binary():
                self._binary(node)
            case Compare():
                left = self.held(node.operands[0])
                self._compare(node, 0, left)
            case Logic():
                self._logic(node)
            case Choice():
                self.value(node.test)
                self.body.put(f"if {KINDS[node.type]}")
                self.value(node.then)
                self.body.put("else")
                self.value(node.otherwise)
                self.body.put("end")
            case Extreme():
                self._extreme(node)
            case Call():
                self._call(node)
            case Length():
                self.body.put(self._length(node.name))
            case Index():
                self._index(node)
        self.body.release(mark)

    # -- operators

    def _convert(self, node: Convert) -> None:
        source, target = node.operand.type, node.type
        if target is int and source is float:
            integers.from_float(self.body, self.held(node.operand).text, node.line)
            return
        self.value(node.operand)
        if target is source:
            return
        if target is bool:
            self.body.put("i64.const 0 i64.ne" if source is int else "f64.const 0.0 f64.ne")
        elif target is int:
            self.body.put("i64.extend_i32_u")
        else:
            self.body.put("f64.convert_i64_s" if source is int else "f64.convert_i32_u")

    def _unary(self, node: Unary) -> None:
        body, line = self.body, node.line
        operand = self.held(node.operand)
        match node.operator:
            case "not":
                body.put(f"{operand.text} i32.eqz")
            case "~":
                body.put(f"{operand.text} i64.const -1 i64.xor")
            case "-" | "abs" if node.type is int:
                (integers.negate if node.operator == "-" else integers.absolute)(body, operand, line)
            case "-" | "abs":
                body.put(f"{operand.text} f64.{'neg' if node.operator == '-' else 'abs'}")
            case "sqrt":
                body.trap_if(f"{operand.text} f64.const 0.0 f64.lt", ValueError, line)
                body.put(f"{operand.text} f64.sqrt")
            case "isnan":
                body.put(f"{operand.text} {operand.text} f64.ne")
            case "isinf" | "isfinite":
                body.put(f"{operand.text} {_CLASSES[node.operator]}")
            case _:
                body.put(f"{operand.text} f64.{_TO_WHOLE[node.operator]}")
                integers.from_float(body, body.keep("f64"), line)

    def _binary(self, node: Binary) -> None:
        body, sign = self.body, node.operator
        a, b = self.held(node.left), self.held(node.right)
        if node.left.type is int:
            bounds = self.ranges.exact(node) if node.type is int else (0, 0)
            if node.type is int and bounds[0] == bounds[1] and a.constant is not None and b.constant is not None:
                known = self.ranges.of(node)
                if known == bounds and sign not in {"//", "%", "**", "<<", ">>"}:
                    body.put(f"i64.const {bounds[0]}")
                    return
            integers.OPERATORS[sign](body, a, b, bounds, node.line)
        elif node.left.type is bool:
            body.put(f"{a.text} {b.text} i32.{_BOOL_OPERATORS[sign]}")
        elif sign in {"//", "%", "/"}:
            body.trap_if(f"{b.text} f64.const 0.0 f64.eq", ZeroDivisionError, node.line)
            body.put(f"{a.text} {b.text}")
            if sign == "/":
                body.put("f64.div")
            else:
                body.call_routine("float_floor" if sign == "//" else "float_modulo")
        else:
            body.put(f"{a.text} {b.text} f64.{_FLOAT_OPERATORS[sign]}")

    def _compare(self, node: Compare, number: int, left: Operand) -> None:
        """Write a chain from one of its operators on."""
        one, other = node.operands[number], node.operands[number + 1]
        sign = node.operators[number]
        right = self.held(other)
        if one.type is other.type:
            name = f"i64.{_INT[sign]}" if one.type is int else f"f64.{_FLOAT[sign]}"
            self.body.put(f"{left.text} {right.text} {name}")
        else:
            self._compare_mixed(sign, left, right, int_first=one.type is int)
        if number + 1 < len(node.operators):
            self.body.put("if i32")
            self._compare(node, number + 1, right)
            self.body.put("else i32.const 0 end")

    def _compare_mixed(self, sign: str, left: Operand, right: Operand, *, int_first: bool) -> None:
        """Write a comparison of an int and a float; Python compares them exactly, not as floats."""
        whole, real = (left, right) if int_first else (right, left)
        sign = sign if int_first else _TURNED[sign]
        if whole.low >= -EXACT and whole.high <= EXACT:
            self.body.put(f"{whole.text} f64.convert_i64_s {real.text} f64.{_FLOAT[sign]}")
        else:
            self.body.put(f"{whole.text} {real.text}")
            self.body.call_routine("order")
            self.body.put(_ORDER[sign])

    def _logic(self, node: Logic) -> None:
        left = self.held(node.left)
        truth = {int: " i64.const 0 i64.ne", float: " f64.const 0.0 f64.ne", bool: ""}[node.type]
        self.body.put(f"{left.text}{truth} if {KINDS[node.type]}")
        if node.operator == "and":
            self.value(node.right)
            self.body.put(f"else {left.text} end")
        else:
            self.body.put(f"{left.text} else")
            self.value(node.right)
            self.body.put("end")

    def _extreme(self, node: Extreme) -> None:
        kind = KINDS[node.type]
        sign = "lt" if node.operator == "min" else "gt"
        sign = f"{kind}.{sign}" if node.type is float else f"{kind}.{sign}_s"
        best = self.held(node.operands[0]).text
        for number, each in enumerate(node.operands[1:], 2):
            other = self.held(each).text
            self.body.put(f"{other} {best} {other} {best} {sign} select")
            if number < len(node.operands):
                best = self.body.keep(kind)

    # -- calls and bytes

    def _call(self, node: Call) -> None:
        for argument in node.arguments:
            self.value(argument)
        recursive = node.function in self._numbers.callers
        if recursive:
            depth = f"global.get {DEPTH_INDEX}"
            self.body.trap_if(f"{depth} i64.const {DEPTH_MAX} i64.ge_s", RecursionError, node.line)
            self.body.put(f"{depth} i64.const 1 i64.add global.set {DEPTH_INDEX}")
        self.body.put(f"call {self._numbers.function[node.function]}")
        if recursive:
            self.body.put(f"{depth} i64.const 1 i64.sub global.set {DEPTH_INDEX}")

    def _length(self, name: str) -> str:
        return f"local.get {self.locals[name] + 1} i64.extend_i32_u"

    def _index(self, node: Index) -> None:
        index = self.held(node.index)
        length = self._length(node.name)
        at = index.text
        if index.low < 0:  # from the end
            self.body.put(f"{at} {length} {at} i64.const 63 i64.shr_s i64.and i64.add")
            at = self.body.keep("i64")
        self.body.trap_if(f"{at} {length} i64.ge_u", IndexError, node.line)
        self.body.put(f"local.get {self.locals[node.name]} {at} i32.wrap_i64 i32.add i64.load8_u")


def _constant(node: Constant) -> str:
    kind = KINDS[node.type]
    return f"{kind}.const {node.value!r}" if node.type is float else f"{kind}.const {int(node.value)}"
