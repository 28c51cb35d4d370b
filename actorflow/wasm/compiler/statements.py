"""From the statements of a typed tree to the instructions of one function.

A loop is tested once before it and once at its end: one branch for each trip. The counter of a range is a local of
its own, since what the body assigns to the loop's variable does not alter the trips.
"""

from __future__ import annotations

from actorflow.wasm.compiler.body import TRAP_INDEX, Operand
from actorflow.wasm.compiler.emit import Numbers, Values
from actorflow.wasm.compiler.tree import (
    INT_MAX,
    INT_MIN,
    Assign,
    Break,
    Constant,
    Continue,
    Evaluate,
    Expression,
    ForBytes,
    ForRange,
    Function,
    If,
    Return,
    Statement,
    While,
)


def emit(function: Function, numbers: Numbers, *, entry: bool) -> tuple[list[str], str]:
    """Return the types of a function's locals, parameters first, and its instructions.

    `entry` says that a host calls it: then it forgets, first of all, what an earlier call has left in the trap.
    """
    writer = _Writer(function, numbers)
    if entry:
        writer.body.put(f"i64.const 0 global.set {TRAP_INDEX}")
    writer.block(function.body)
    writer.body.put("unreachable")  # every path has returned
    return writer.body.types, writer.body.text


class _Writer:
    """Writes the statements of one function."""

    def __init__(self, function: Function, numbers: Numbers) -> None:
        self._values = Values(function, numbers)
        self.body = self._values.body
        self._depth = 0
        self._loops: list[tuple[int, int]] = []  # where `break` and `continue` of each lead, as depths

    def block(self, statements: tuple[Statement, ...]) -> None:
        """Write statements one after the other."""
        for statement in statements:
            mark = self.body.taken()
            self._statement(statement)
            self.body.release(mark)

    def _statement(self, statement: Statement) -> None:
        match statement:
            case Assign():
                self._assign(statement)
            case Evaluate():
                self._values.value(statement.value)
                self.body.put("drop")
            case Return():
                self._values.value(statement.value)
                self.body.put("return")
            case If():
                self._if(statement)
            case While():
                self._while(statement)
            case ForRange():
                self._for_range(statement)
            case ForBytes():
                self._for_bytes(statement)
            case Break():
                self._leave(self._loops[-1][0])
            case Continue():
                self._leave(self._loops[-1][1])

    def _assign(self, statement: Assign) -> None:
        for value in statement.values:
            self._values.value(value)
        last: dict[str, int] = {name: number for number, name in enumerate(statement.targets)}
        for number, name in reversed(list(enumerate(statement.targets))):  # the stack gives the last value first
            wanted = last[name] == number  # `a, a = 1, 2` leaves the 2
            self.body.put(f"local.set {self._values.locals[name]}" if wanted else "drop")

    # -- ways

    def _open(self, text: str) -> int:
        self.body.put(text)
        self._depth += 1
        return self._depth

    def _close(self) -> None:
        self.body.put("end")
        self._depth -= 1

    def _leave(self, to: int) -> None:
        self.body.put(f"br {self._depth - to}")

    def _if(self, statement: If) -> None:
        self._values.value(statement.test)
        self._open("if void")
        self.block(statement.then)
        if statement.otherwise:
            self.body.put("else")
            self.block(statement.otherwise)
        self._close()

    def _while(self, statement: While) -> None:
        end = self._open("block void")
        again = self._open("loop void")
        if not (isinstance(statement.test, Constant) and statement.test.value):
            self._values.value(statement.test)
            self.body.put("i32.eqz br_if 1")
        self._loops.append((end, again))
        self.block(statement.body)
        self._loops.pop()
        self._leave(again)
        self._close()
        self._close()

    def _trips(self, first: str, body: tuple[Statement, ...], advance: str) -> None:
        """Write trips; `first` begins each of them, `advance` ends it and says whether there is one more."""
        end = self._open("block void")
        self._open("loop void")
        self.body.put(first)
        following = self._open("block void")
        self._loops.append((end, following))
        self.block(body)
        self._loops.pop()
        self._close()
        self.body.put(f"{advance} br_if 0")
        self._close()
        self._close()

    def _bound(self, node: Expression) -> Operand:
        """Write a bound of a range, which is what it was at the start whatever the body assigns."""
        held = self._values.held(node)
        if isinstance(node, Constant):
            return held
        self.body.put(held.text)
        return Operand(self.body.keep("i64"), held.bounds)

    def _for_range(self, loop: ForRange) -> None:
        start, stop, step = self._bound(loop.start), self._bound(loop.stop), self._bound(loop.step)
        self.body.put(start.text)
        counter = self.body.temporary("i64")
        self.body.put(f"local.set {counter}")
        first = f"local.get {counter} local.set {self._values.locals[loop.target]}"
        advance = f"local.get {counter} {step.text} i64.add local.set {counter}"
        by = step.constant
        if by is not None and by != 0 and _stays_within(stop, by):
            more = f"local.get {counter} {stop.text} i64.{'lt_s' if by > 0 else 'gt_s'}"
        else:  # the counter may pass the end of 64 bits after the last trip: count the trips themselves
            left = self._count(start, stop, step, loop.line)
            more = f"local.get {left} i64.const 0 i64.ne"
            advance += f" local.get {left} i64.const 1 i64.sub local.set {left}"
        self.body.put(more)
        self._open("if void")
        self._trips(first, loop.body, f"{advance} {more}")
        self._close()

    def _count(self, start: Operand, stop: Operand, step: Operand, line: int) -> int:
        """Write how many trips a range has, an unsigned number; return the local that has it."""
        if step.low <= 0 <= step.high:
            self.body.trap_if(f"{step.text} i64.eqz", ValueError, line)
        left = self.body.temporary("i64")
        up = _count_of(start.text, stop.text, step.text)
        down = _count_of(stop.text, start.text, f"i64.const 0 {step.text} i64.sub")
        self.body.put(f"{step.text} i64.const 0 i64.gt_s if i64 {up} else {down} end local.set {left}")
        return left

    def _for_bytes(self, loop: ForBytes) -> None:
        data = self._values.locals[loop.name]
        counter = self.body.temporary("i32")
        target = self._values.locals[loop.target]
        self.body.put(f"i32.const 0 local.set {counter} local.get {data + 1}")
        self._open("if void")
        self._trips(
            f"local.get {data} local.get {counter} i32.add i64.load8_u local.set {target}",
            loop.body,
            f"local.get {counter} i32.const 1 i32.add local.tee {counter} local.get {data + 1} i32.lt_u",
        )
        self._close()


def _count_of(low: str, high: str, step: str) -> str:
    return f"{low} {high} i64.lt_s if i64 {high} {low} i64.sub i64.const 1 i64.sub {step} i64.div_u " \
           "i64.const 1 i64.add else i64.const 0 end"  # fmt: skip


def _stays_within(stop: Operand, by: int) -> bool:
    """Return whether the counter has 64 bits behind the last trip too."""
    if by in {1, -1}:
        return True
    return stop.high - 1 + by <= INT_MAX if by > 0 else stop.low + 1 + by >= INT_MIN
