"""Random programs of the subset, as text, with inputs for them."""

from __future__ import annotations

import random
import struct
from typing import Any

INTS = [0, 1, -1, 2, 3, -3, 7, 10, 31, 32, 62, 63, 64, 65, 100, 255, 1 << 31, -(1 << 31), (1 << 31) - 1, 1 << 32,
        -(1 << 32), (1 << 53) - 1, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, 3037000499, 3037000500, 1 << 62,
        -(1 << 62), (1 << 63) - 1, (1 << 63) - 2, -(1 << 63), -(1 << 63) + 1]  # fmt: skip
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 3.7, -3.7, 0.1, 1e-300, -1e-300, 5e-324, -5e-324,
          2.2250738585072014e-308, 2.0**31, 2.0**53, 2.0**53 - 1, 2.0**53 + 2, 2.0**63, -(2.0**63),
          9.223372036854774784e18, 1e19, 1e308, -1e308, 1.7976931348623157e308, float("inf"), float("-inf"),
          float("nan")]  # fmt: skip
BYTES = [b"", b"\x00", b"\xff\x80\x7f", b"hello", bytes(range(20))]
NUMBERS = ("int", "float", "bool")


def draw_int(chance: random.Random, *, tame: bool = False) -> int:
    how = 0.5 if tame and chance.random() < 0.9 else chance.random()
    if how < 0.4:
        return chance.choice(INTS)
    if how < 0.75:
        return chance.randint(-20, 20)
    return (chance.getrandbits(64) >> chance.randrange(64)) - chance.choice([0, 1 << 62]) & (1 << 62) - 1


def draw_float(chance: random.Random, *, tame: bool = False) -> float:
    how = 0.6 if tame and chance.random() < 0.9 else chance.random()
    if how < 0.5:
        return chance.choice(FLOATS)
    if how < 0.85:
        return chance.uniform(-50, 50)
    value: float = struct.unpack("<d", chance.randbytes(8))[0]
    return value


def draw_value(chance: random.Random, kind: str, *, tame: bool) -> Any:
    if kind == "int":
        return draw_int(chance, tame=tame)
    if kind == "float":
        return draw_float(chance, tame=tame)
    if kind == "bool":
        return chance.random() < 0.5
    return chance.choice(BYTES) if chance.random() < 0.7 else chance.randbytes(chance.randrange(30))


class Writer:
    """Writes one function; only locals that surely have a value are read.

    A tame one seldom leaves 64 bits or divides by 0, so that it comes to its end.
    """

    def __init__(
        self, chance: random.Random, name: str, others: list[tuple[str, list[str], str]], *, tame: bool
    ) -> None:
        self.chance = chance
        self.tame = tame
        self.name = name
        self.others = others
        self.params = [
            chance.choice(["int", "int", "float", "float", "bool", "bytes"]) for _ in range(chance.randrange(1, 5))
        ]
        self.result = chance.choice(NUMBERS)
        self.types = {f"p{number}": kind for number, kind in enumerate(self.params)}
        self.assigned = set(self.types)
        self.lines: list[str] = []
        self.counters = 0
        self.loops = 0

    def text(self) -> str:
        params = ", ".join(f"p{number}: {kind}" for number, kind in enumerate(self.params))
        self.lines.append(f"@wasm\ndef {self.name}({params}) -> {self.result}:")
        if self.chance.random() < 0.2:
            self.lines.append('    """Do something."""')
        self.block(1, self.chance.randrange(2, 7))
        self.line(1, f"return {self.value(self.result, 3)}")
        return "\n".join(self.lines) + "\n"

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    # -- statements

    def block(self, depth: int, count: int) -> None:
        for _ in range(count):
            self.statement(depth)

    def statement(self, depth: int) -> None:
        how = self.chance.random()
        if depth > 3 or how < 0.45:
            self.assign(depth)
        elif how < 0.55:
            self.augment(depth)
        elif how < 0.72:
            self.if_(depth)
        elif how < 0.86 and self.loops < 2:
            self.for_(depth)
        elif how < 0.94 and self.loops < 2:
            self.while_(depth)
        elif how < 0.97:
            self.line(depth, f"if {self.condition(2)}:")
            self.line(depth + 1, f"return {self.value(self.result, 2)}")
        else:
            self.line(depth, self.chance.choice(["pass", self.value("int", 2)]))

    def target(self, kind: str) -> str:
        known = [name for name, each in self.types.items() if each == kind and not name.startswith("k")]
        if known and self.chance.random() < 0.6:
            return self.chance.choice(known)
        name = f"v{len(self.types)}"
        self.types[name] = kind
        return name

    def assign(self, depth: int) -> None:
        kind = self.chance.choice(NUMBERS)
        how = self.chance.random()
        if how < 0.12:
            other = self.chance.choice(NUMBERS)
            first, second = self.value(kind, 2), self.value(other, 2)
            a, b = self.target(kind), self.target(other)
            self.line(depth, f"{a}, {b} = {first}, {second}")
            self.assigned |= {a, b}
            return
        value = self.value(kind, 3)
        name = self.target(kind)
        if how < 0.2:
            other_name = self.target(kind)
            self.line(depth, f"{name} = {other_name} = {value}")
            self.assigned.add(other_name)
        else:
            self.line(depth, f"{name}{': ' + kind if self.chance.random() < 0.1 else ''} = {value}")
        self.assigned.add(name)

    def augment(self, depth: int) -> None:
        known = [name for name in self.readable("int") + self.readable("float") if not name.startswith("k")]
        if not known:
            return self.assign(depth)
        name = self.chance.choice(known)
        if self.types[name] == "float":
            kind = self.chance.choice(["float", "float", "int", "bool"])
            return self.line(depth, f"{name} {self.chance.choice('+-*')}= {self.value(kind, 2)}")
        sign = self.chance.choice(["+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>"])
        if sign in {"//", "%", "<<", ">>"} and self.kindly(0.4):
            return self.line(
                depth, f"{name} {sign}= {self.chance.choice(['1', '2', '3', f'({self.whole(1)} & 3 | 1)'])}"
            )
        return self.line(depth, f"{name} {sign}= {self.whole(2)}")

    def if_(self, depth: int) -> None:
        self.line(depth, f"if {self.condition(3)}:")
        before = set(self.assigned)
        self.block(depth + 1, self.chance.randrange(1, 3))
        after = self.assigned
        self.assigned = set(before)
        if self.chance.random() < 0.3:
            self.line(depth, f"elif {self.condition(2)}:")
            self.block(depth + 1, 1)
            after, self.assigned = after & self.assigned, set(before)
        if self.chance.random() < 0.5:
            self.line(depth, "else:")
            self.block(depth + 1, self.chance.randrange(1, 3))
        self.assigned &= after

    def body(self, depth: int) -> None:
        self.loops += 1
        before = set(self.assigned)
        self.block(depth, self.chance.randrange(1, 4))
        if self.chance.random() < 0.25:
            self.line(depth, f"if {self.condition(2)}:")
            self.line(depth + 1, self.chance.choice(["break", "continue"]))
            self.block(depth, 1)
        self.assigned = before
        self.loops -= 1

    def for_(self, depth: int) -> None:
        views = [name for name in self.assigned if self.types[name] == "bytes"]
        over_bytes = views and self.chance.random() < 0.3
        bounds = self.chance.choice(sorted(views)) if over_bytes else f"range({self.range()})"
        name = self.target("int")
        self.line(depth, f"for {name} in {bounds}:")
        surely = name in self.assigned
        self.assigned.add(name)
        self.body(depth + 1)
        if not surely:
            self.assigned.discard(name)

    def range(self) -> str:
        chance, some = self.chance, self.value("int", 2)
        how = chance.random()
        if how < 0.25:
            return str(chance.randrange(8))
        if how < 0.45:
            return f"({some}) % {chance.randrange(1, 9)}"
        if how < 0.6:
            return f"{chance.randrange(-5, 5)}, {chance.randrange(-5, 9)}"
        if how < 0.75:
            return f"{chance.randrange(-9, 9)}, ({some}) % 9, {chance.choice([-3, -2, -1, 1, 2, 3])}"
        if how < 0.9:
            return f"({some}) % 7 - 3, {chance.randrange(-5, 9)}, ({self.value('int', 1)}) % 5 - 2"
        top = 9223372036854775807
        step = chance.randrange(1, 9)
        if chance.random() < 0.5:
            return f"{top - chance.randrange(30)}, {top - chance.randrange(9)}, {step}"
        return f"{-top + chance.randrange(30)}, {-top - 1 + chance.randrange(9)}, {-step}"

    def while_(self, depth: int) -> None:
        self.counters += 1
        counter = f"k{self.counters}"
        self.types[counter] = "int"
        self.line(depth, f"{counter} = 0")
        self.assigned.add(counter)
        if self.chance.random() < 0.3:
            self.line(depth, "while True:")
            self.line(depth + 1, f"if {counter} >= {self.chance.randrange(1, 7)}:")
            self.line(depth + 2, "break")
        else:
            self.line(depth, f"while {counter} < {self.chance.randrange(1, 7)} and ({self.condition(2)}):")
        self.line(depth + 1, f"{counter} += 1")
        self.body(depth + 1)

    # -- expressions

    def readable(self, kind: str) -> list[str]:
        return sorted(name for name in self.assigned if self.types[name] == kind)

    def condition(self, depth: int) -> str:
        how = self.chance.random()
        if how < 0.6:
            return self.value("bool", depth)
        if how < 0.75 and depth:
            return f"({self.condition(depth - 1)} {self.chance.choice(['and', 'or'])} {self.condition(depth - 1)})"
        return self.value(self.chance.choice(NUMBERS), depth)

    def value(self, kind: str, depth: int) -> str:
        known = self.readable(kind)
        if depth == 0 or self.chance.random() < 0.2:
            return self.chance.choice(known) if known and self.chance.random() < 0.75 else self.constant(kind)
        if self.chance.random() < 0.12:
            return self.any_kind(kind, depth - 1)
        return {"int": self.int_value, "float": self.float_value, "bool": self.bool_value}[kind](depth - 1)

    def constant(self, kind: str) -> str:
        if kind == "bool":
            return self.chance.choice(["True", "False"])
        if kind == "float":
            value = draw_float(self.chance, tame=self.tame)
            text = repr(value)
            return f"float('{text}')" if "n" in text else text if value > 0 else f"({text})"
        number = draw_int(self.chance, tame=self.tame)
        return str(number) if number >= 0 else f"({number})"

    def any_kind(self, kind: str, depth: int) -> str:
        how = self.chance.random()
        callable_ = [each for each in self.others if each[2] == kind]
        if callable_ and how < 0.4:
            name, params, _ = self.chance.choice(callable_)
            given = []
            for each in params:
                views = self.readable("bytes")
                if each == "bytes" and not views:
                    break
                given.append(self.chance.choice(views) if each == "bytes" else self.value(each, depth))
            else:
                return f"{name}({', '.join(given)})"
        if how < 0.6:
            return f"({self.value(kind, depth)} if {self.condition(depth)} else {self.value(kind, depth)})"
        if how < 0.8:
            return f"({self.value(kind, depth)} {self.chance.choice(['and', 'or'])} {self.value(kind, depth)})"
        parts = ", ".join(self.value(kind, depth) for _ in range(self.chance.randrange(2, 4)))
        return f"{self.chance.choice(['min', 'max'])}({parts})"

    def kindly(self, likely: float) -> bool:
        """Return whether to write an operand that raises nothing."""
        return self.chance.random() < (0.97 if self.tame else likely)

    def whole(self, depth: int) -> str:
        return self.value(self.chance.choice(["int", "int", "int", "int", "bool"]), depth)

    def int_value(self, depth: int) -> str:
        chance = self.chance
        how = chance.random()
        if how < 0.3:
            return f"({self.whole(depth)} {chance.choice('+-*')} {self.whole(depth)})"
        if how < 0.45:
            by = str(chance.choice([1, 2, 3, 7, 10, 16, 1000, -1, -3, 2**31]))
            if not self.kindly(0.5):
                by = self.whole(depth)
            elif chance.random() < 0.4:
                by = f"(abs({self.whole(depth)}) + 1)" if chance.random() < 0.5 else f"({self.whole(depth)} | 1)"
            return f"({self.whole(depth)} {chance.choice(['//', '%'])} {by})"
        if how < 0.55:
            both = f"{self.value('int', depth)} {chance.choice('&|^')} {self.whole(depth)}"
            return f"({both})"
        if how < 0.65:
            sign = chance.choice(["<<", ">>"])
            by = str(chance.choice([0, 1, 3, 5] if self.tame and sign == "<<" else [0, 1, 5, 31, 32, 62, 63, 64, 65]))
            if not self.kindly(0.7):
                by = self.whole(depth)
            elif chance.random() < 0.3:
                by = f"({self.whole(depth)} & {7 if self.tame else 127})"
            return f"({self.whole(depth)} {sign} {by})"
        if how < 0.69:
            by = str(chance.randrange(4)) if self.kindly(0.7) else self.whole(depth)
            return f"({self.whole(depth)} ** {by})"
        if how < 0.8:
            return f"({chance.choice(['-', '~', '+'])}{self.whole(depth)})"
        if how < 0.84:
            return f"abs({self.whole(depth)})"
        if how < 0.94:
            views = self.readable("bytes")
            if views:
                view = chance.choice(views)
                if chance.random() < 0.5:
                    return f"len({view})"
                index = self.value("int", depth)
                return (
                    f"({view}[{index} % len({view})] if {view} else {index})"
                    if self.kindly(0.4)
                    else f"{view}[{index}]"
                )
            return f"int({self.value('bool', depth)})"
        return (
            f"{chance.choice(['int', 'round', 'math.floor', 'math.ceil', 'math.trunc'])}({self.value('float', depth)})"
        )

    def float_value(self, depth: int) -> str:
        chance = self.chance
        how = chance.random()
        kinds = chance.choice(
            [("float", "float"), ("float", "float"), ("int", "float"), ("float", "int"), ("bool", "float")]
        )
        if how < 0.5:
            left, right = (self.value(each, depth) for each in kinds)
            return f"({left} {chance.choice('+-*')} {right})"
        if how < 0.7:
            left, right = (self.value(each, depth) for each in kinds)
            if self.kindly(0.4):
                right = f"({right} or {chance.choice(['0.5', '-3.0', '1e10'])})" if kinds[1] == "float" else "3"
            return f"({left} {chance.choice(['/', '//', '%'])} {right})"
        if how < 0.8:
            by = f"({self.value('int', depth)} or 7)" if self.kindly(0.4) else self.whole(depth)
            return f"({self.whole(depth)} / {by})"
        if how < 0.87:
            return f"(-{self.value('float', depth)})"
        if how < 0.93:
            if chance.random() < 0.3:
                return f"math.sqrt({'abs' if self.kindly(0.5) else ''}({self.value('float', depth)}))"
            return f"{chance.choice(['abs', 'math.fabs', '+'])}({self.value('float', depth)})"
        return f"float({self.value(chance.choice(NUMBERS), depth)})"

    def bool_value(self, depth: int) -> str:
        chance = self.chance
        how = chance.random()
        if how < 0.65:
            count = 2 if chance.random() < 0.8 else 3
            parts = [self.value(chance.choice(["int", "int", "float", "bool"]), depth) for _ in range(count)]
            signs = [chance.choice(["<", "<=", ">", ">=", "==", "!="]) for _ in parts[1:]]
            return f"({parts[0]} " + " ".join(f"{a} {b}" for a, b in zip(signs, parts[1:], strict=True)) + ")"
        if how < 0.78:
            return f"(not {self.condition(depth)})"
        if how < 0.86:
            return f"({self.value('bool', depth)} {chance.choice('&|^')} {self.value('bool', depth)})"
        if how < 0.93:
            return f"bool({self.value(chance.choice(NUMBERS), depth)})"
        return f"math.{chance.choice(['isnan', 'isinf', 'isfinite'])}({self.value('float', depth)})"


def draw_program(seed: int) -> tuple[str, list[tuple[Any, ...]]]:
    """Return a module whose last function is `f`, and inputs for that."""
    chance = random.Random(seed)
    tame = chance.random() < 0.7
    others: list[tuple[str, list[str], str]] = []
    texts = []
    for number in range(chance.choice([0, 0, 1, 2])):
        writer = Writer(chance, f"g{number}", list(others), tame=tame)
        texts.append(writer.text())
        others.append((writer.name, writer.params, writer.result))
    writer = Writer(chance, "f", others, tame=tame)
    texts.append(writer.text())
    inputs = [tuple(draw_value(chance, kind, tame=tame) for kind in writer.params) for _ in range(6)]
    return "\n".join(texts), inputs
