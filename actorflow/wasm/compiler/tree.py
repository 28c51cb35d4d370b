"""The typed tree: what a function of the subset says, after every name and type in it has been settled.

Invariants, which the checker holds and the emitter relies on:

- The operands of a `Binary` have one type; where Python would convert one, there is a `Convert`.
- Evaluating an expression changes no local: a local may be read once or many times in it.
- A local that is read has been assigned on every way that leads there, and has one type everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import TypeAlias

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that is known: of the source, or of the module around it."""

    type: type
    line: int
    value: float


@dataclass(frozen=True, slots=True)
class Local:
    """The value of a parameter or local."""

    type: type
    line: int
    name: str


@dataclass(frozen=True, slots=True)
class Convert:
    """A value as another type: `int(x)`, `float(x)`, `bool(x)`, or what Python does by itself."""

    type: type
    line: int
    operand: Expression


@dataclass(frozen=True, slots=True)
class Unary:
    """An operator, or function, of one operand."""

    type: type
    line: int
    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator of two operands of one type."""

    type: type
    line: int
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Compare:
    """A chain of comparisons; there is one operator less than operands. Ints and floats may be mixed."""

    type: type
    line: int
    operators: tuple[str, ...]
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Logic:
    """`and` or `or`, with the value of the operand that decides."""

    type: type
    line: int
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Choice:
    """`then if test else otherwise`."""

    type: type
    line: int
    test: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True, slots=True)
class Extreme:
    """`min` or `max` of two or more: the first of those that are equal."""

    type: type
    line: int
    operator: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a compiled function, by the plain Python function behind it."""

    type: type
    line: int
    function: FunctionType
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Length:
    """`len` of a parameter of bytes."""

    type: type
    line: int
    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """One byte of a parameter of bytes."""

    type: type
    line: int
    name: str
    index: Expression


Expression: TypeAlias = (
    Constant | Local | Convert | Unary | Binary | Compare | Logic | Choice | Extreme | Call | Length | Index
)


@dataclass(frozen=True, slots=True)
class Assign:
    """All values are evaluated, from left to right, before any is assigned."""

    targets: tuple[str, ...]
    values: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Evaluate:
    """An expression whose value nobody wants."""

    value: Expression


@dataclass(frozen=True, slots=True)
class If:
    """`if`, with what `elif` and `else` say in `otherwise`."""

    test: Expression
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class While:
    """`while`."""

    test: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class ForRange:
    """`for target in range(start, stop, step)`."""

    line: int
    target: str
    start: Expression
    stop: Expression
    step: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class ForBytes:
    """`for target in name`, over a parameter of bytes."""

    target: str
    name: str
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Return:
    """`return value`."""

    value: Expression


@dataclass(frozen=True, slots=True)
class Break:
    """`break`."""


@dataclass(frozen=True, slots=True)
class Continue:
    """`continue`."""


Statement: TypeAlias = Assign | Evaluate | If | While | ForRange | ForBytes | Return | Break | Continue


@dataclass(frozen=True, slots=True)
class Signature:
    """What a caller must know of a function."""

    params: Mapping[str, type]
    result: type


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the subset, its locals in the order in which they are first assigned (parameters first)."""

    name: str
    signature: Signature
    locals: Mapping[str, type]
    body: tuple[Statement, ...]
    calls: tuple[FunctionType, ...] = field(default=())
