"""Between which bounds the ints of a function lie: where they cannot leave 64 bits, no check is written.

Invariants: bounds are never too narrow. A local has one pair of bounds for the whole function, that of everything
it is ever assigned; who does not settle in a few rounds may be anything. An operation that would leave 64 bits
stops the function, so that its value, where there is one, lies within them.
"""

from __future__ import annotations

from collections.abc import Iterable

from actorflow.wasm.compiler.tree import (
    INT_MAX,
    INT_MIN,
    Assign,
    Binary,
    Choice,
    Constant,
    Convert,
    Expression,
    Extreme,
    ForBytes,
    ForRange,
    Function,
    If,
    Index,
    Length,
    Local,
    Logic,
    Statement,
    Unary,
    While,
)

Bounds = tuple[int, int]
"""The smallest and the largest value, both included."""

ANY: Bounds = (INT_MIN, INT_MAX)
EMPTY: Bounds = (INT_MAX, INT_MIN)
"""Of what has not been assigned yet, while the bounds are sought."""

ROUNDS_MAX = 4
BYTES_MAX = (1 << 32) - 1


def union(one: Bounds, other: Bounds) -> Bounds:
    """Return the bounds of what may be either."""
    return min(one[0], other[0]), max(one[1], other[1])


def within(bounds: Bounds) -> bool:
    """Return whether every value has 64 bits."""
    return bounds[0] >= INT_MIN and bounds[1] <= INT_MAX


class Ranges:
    """The bounds of every int expression of one function."""

    def __init__(self, function: Function) -> None:
        self._locals = {name: ANY if name in function.signature.params else EMPTY for name in function.locals}
        self._known: dict[int, Bounds] = {}
        for round_number in range(ROUNDS_MAX + len(self._locals) + 1):
            before = dict(self._locals)
            self._known.clear()
            self._look_at(function.body)
            changed = [name for name, bounds in self._locals.items() if bounds != before[name]]
            if not changed:
                break
            if round_number >= ROUNDS_MAX:
                self._locals.update(dict.fromkeys(changed, ANY))
        else:  # pragma: no cover - every round after the first few settles one local at least
            self._locals = dict.fromkeys(self._locals, ANY)
        self._known.clear()

    def of(self, node: Expression) -> Bounds:
        """Return the bounds of a value, where there is one."""
        low, high = self.exact(node)
        low, high = max(low, INT_MIN), min(high, INT_MAX)
        return (low, high) if low <= high else ANY

    def exact(self, node: Expression) -> Bounds:
        """Return the bounds of what Python would give, which may have more than 64 bits."""
        known = self._known.get(id(node))
        if known is None:
            known = self._known[id(node)] = self._bounds(node)
        return known

    # -- locals

    def _look_at(self, body: Iterable[Statement]) -> None:
        for statement in body:
            match statement:
                case Assign():
                    for name, value in zip(statement.targets, statement.values, strict=True):
                        if value.type is int:
                            self._assigned(name, self._of_assigned(value))
                case If():
                    self._look_at(statement.then)
                    self._look_at(statement.otherwise)
                case While():
                    self._look_at(statement.body)
                case ForBytes():
                    self._assigned(statement.target, (0, 255))
                    self._look_at(statement.body)
                case ForRange():
                    self._assigned(statement.target, self._of_range(statement))
                    self._look_at(statement.body)

    def _assigned(self, name: str, bounds: Bounds) -> None:
        self._locals[name] = union(self._locals[name], bounds)

    def _of_assigned(self, value: Expression) -> Bounds:
        low, high = self.exact(value)
        if (low, high) == EMPTY:
            return EMPTY
        return self.of(value)

    def _of_range(self, loop: ForRange) -> Bounds:
        (start_low, start_high), (stop_low, stop_high) = self.of(loop.start), self.of(loop.stop)
        step_low, step_high = self.of(loop.step)
        low = start_low if step_low > 0 else stop_low + 1 if step_high < 0 else min(start_low, stop_low + 1)
        high = stop_high - 1 if step_low > 0 else start_high if step_high < 0 else max(start_high, stop_high - 1)
        return max(low, INT_MIN), min(high, INT_MAX)

    # -- expressions

    def _bounds(self, node: Expression) -> Bounds:
        if node.type is bool:
            return 0, 1
        match node:
            case Constant(value=int()):
                return int(node.value), int(node.value)
            case Local():
                return self._locals[node.name]
            case Convert(operand=operand) if operand.type is not float:
                return self.exact(operand)
            case Unary(operand=operand) if operand.type is int:
                return EMPTY if self.exact(operand) == EMPTY else _unary(node.operator, self.of(operand))
            case Binary() if node.left.type is int:
                if EMPTY in {self.exact(node.left), self.exact(node.right)}:
                    return EMPTY
                return _binary(node.operator, self.of(node.left), self.of(node.right))
            case Logic():
                return union(self.exact(node.left), self.exact(node.right))
            case Choice():
                return union(self.exact(node.then), self.exact(node.otherwise))
            case Extreme():
                bounds = [self.exact(each) for each in node.operands]
                choose = min if node.operator == "min" else max
                return (
                    EMPTY if EMPTY in bounds else (choose(low for low, _ in bounds), choose(high for _, high in bounds))
                )
            case Length():
                return 0, BYTES_MAX
            case Index():
                return 0, 255
        return ANY


def _unary(sign: str, of: Bounds) -> Bounds:
    low, high = of
    if sign == "-":
        return -high, -low
    if sign == "~":
        return ~high, ~low
    return (0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))  # abs


def _corners(values: Iterable[int]) -> Bounds:
    found = list(values)
    return min(found), max(found)


def _binary(sign: str, one: Bounds, other: Bounds) -> Bounds:
    match sign:
        case "+":
            return one[0] + other[0], one[1] + other[1]
        case "-":
            return one[0] - other[1], one[1] - other[0]
        case "*":
            return _corners(left * right for left in one for right in other)
        case "//":
            if other[0] > 0 or other[1] < 0:
                return _corners(left // right for left in one for right in other)
            largest = max(abs(one[0]), abs(one[1]))
            return -largest, largest
        case "%":
            high = max(other[1] - 1, 0)
            return min(other[0] + 1, 0), min(high, one[1]) if one[0] >= 0 and other[0] >= 0 else high
        case "<<":
            if other[0] >= 0 and other[1] <= 63:
                return _corners(left << right for left in one for right in other)
            return (0 if one[0] >= 0 else INT_MIN * 2, INT_MAX * 2)  # whatever leaves 64 bits is refused by a check
        case ">>":
            if other[0] >= 0:
                return _corners(left >> min(right, 64) for left in one for right in other)
            return min(one[0], 0), max(one[1], 0)
        case "&":
            if one[0] >= 0 or other[0] >= 0:
                return 0, min(high for low, high in (one, other) if low >= 0)
            return ANY
        case "|" | "^":
            if one[0] >= 0 and other[0] >= 0:
                return 0, (1 << max(one[1], other[1]).bit_length()) - 1
            return ANY
    return _power(one, other)


def _power(base: Bounds, exponent: Bounds) -> Bounds:
    if base[0] >= 0 and exponent[0] >= 0:
        return 0, max(1, base[1] ** exponent[1]) if exponent[1] <= 64 else INT_MAX * 2
    return INT_MIN * 2, INT_MAX * 2
