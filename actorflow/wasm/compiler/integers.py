"""Ints of 64 bits that are Python's wherever they fit, and stop the function wherever they do not.

Every function leaves the result on the stack. `bounds` are what Python's result may be: where they have 64 bits, there
is no check. The checks are those of Warren, "Hacker's Delight" (2nd edition), 2-13 and 10-1, chosen by what is known
of the signs: one comparison where one sign is known, three instructions and a branch otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from actorflow.wasm.compiler.body import Body, Operand
from actorflow.wasm.compiler.ranges import Bounds, within
from actorflow.wasm.compiler.tree import INT_MAX, INT_MIN

HALF = 1 << 31
"""Two ints of 32 bits, signed, have a product of 64."""


def add(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a + b`."""
    body.put(f"{a.text} {b.text} i64.add")
    if within(bounds):
        return
    if a.low >= 0 or a.high <= 0:
        a, b = b, a
    result = body.keep("i64")
    if b.low >= 0:
        wrong = f"{result} {a.text} i64.lt_s"
    elif b.high <= 0:
        wrong = f"{result} {a.text} i64.gt_s"
    else:
        wrong = f"{a.text} {result} i64.xor {b.text} {result} i64.xor i64.and i64.const 0 i64.lt_s"
    body.trap_if(wrong, OverflowError, line)
    body.put(result)


def subtract(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a - b`."""
    body.put(f"{a.text} {b.text} i64.sub")
    if within(bounds):
        return
    result = body.keep("i64")
    if b.low >= 0:
        wrong = f"{result} {a.text} i64.gt_s"
    elif b.high <= 0:
        wrong = f"{result} {a.text} i64.lt_s"
    else:
        wrong = f"{a.text} {b.text} i64.xor {a.text} {result} i64.xor i64.and i64.const 0 i64.lt_s"
    body.trap_if(wrong, OverflowError, line)
    body.put(result)


def multiply(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a * b`: a test of the other factor where one is constant; else small factors at once."""
    if within(bounds):
        body.put(f"{a.text} {b.text} i64.mul")
        return
    if a.constant is not None:
        a, b = b, a
    if b.constant is not None:
        factor = b.constant
        ends = sorted((_toward_zero(INT_MIN, factor), _toward_zero(INT_MAX, factor)))
        _check_between(body, a, ends[0], min(ends[1], INT_MAX), line)
        body.put(f"{a.text} {b.text} i64.mul")
        return
    if _magnitude(a) < _magnitude(b):
        a, b = b, a
    reach = INT_MAX // _magnitude(b)  # as far as a may go, whatever b is
    if reach >= HALF:
        small = f"{a.text} i64.const {reach} i64.add i64.const {_wrapped(2 * reach)} i64.le_u"
    else:
        both = f"{a.text} i64.const {HALF} i64.add {b.text} i64.const {HALF} i64.add i64.or"
        small = f"{both} i64.const 32 i64.shr_u i64.eqz"
    body.put(f"{small} if i64 {a.text} {b.text} i64.mul else {a.text} {b.text} i64.const {line << 8}")
    body.call_routine("multiply")
    body.put("end")


def _toward_zero(value: int, by: int) -> int:
    return value // by if (value < 0) == (by < 0) else -(-value // by)


def _magnitude(of: Operand) -> int:
    return max(abs(of.low), abs(of.high))


def _check_between(body: Body, a: Operand, low: int, high: int, line: int) -> None:
    if a.low >= low:
        wrong = f"{a.text} i64.const {high} i64.gt_s"
    elif a.high <= high:
        wrong = f"{a.text} i64.const {low} i64.lt_s"
    else:
        wrong = f"{a.text} i64.const {low} i64.sub i64.const {_wrapped(high - low)} i64.gt_u"
    body.trap_if(wrong, OverflowError, line)


def _wrapped(value: int) -> int:
    """Return an unsigned number as the signed one with the same bits."""
    return value - (1 << 64) if value > INT_MAX else value


def floor_divide(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a // b`, toward minus infinity."""
    _check_divisor(body, b, line)
    by = b.constant
    if by is not None and by > 0 and by & (by - 1) == 0:
        body.put(f"{a.text} i64.const {by.bit_length() - 1} i64.shr_s")
        return
    if a.low >= 0 and b.low >= 0:
        body.put(f"{a.text} {b.text} i64.div_u")
        return
    if a.low == INT_MIN and b.low <= -1 <= b.high:
        both = f"{a.text} i64.const {INT_MIN} i64.eq {b.text} i64.const -1 i64.eq i32.and"
        body.trap_if(both, OverflowError, line)
    body.put(f"{a.text} {b.text} i64.div_s")
    quotient = body.keep("i64")
    body.put(f"{a.text} {quotient} {b.text} i64.mul i64.sub")
    rest = body.keep("i64")
    if b.low > 0:
        body.put(f"{quotient} {rest} i64.const 63 i64.shr_s i64.add")
    else:
        body.put(f"{quotient} {_signs_differ(rest, b)} i64.extend_i32_u i64.sub")


def modulo(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a % b`, with the sign of b."""
    _check_divisor(body, b, line)
    by = b.constant
    if by is not None and by > 0 and by & (by - 1) == 0:
        body.put(f"{a.text} i64.const {by - 1} i64.and")
        return
    if a.low >= 0 and b.low >= 0:
        body.put(f"{a.text} {b.text} i64.rem_u")
        return
    body.put(f"{a.text} {b.text} i64.rem_s")
    rest = body.keep("i64")
    if b.low > 0:
        body.put(f"{rest} {b.text} {rest} i64.const 63 i64.shr_s i64.and i64.add")
    else:
        body.put(f"{rest} {b.text} i64.const 0 {_signs_differ(rest, b)} select i64.add")


def _check_divisor(body: Body, b: Operand, line: int) -> None:
    if b.low <= 0 <= b.high:
        body.trap_if(f"{b.text} i64.eqz", ZeroDivisionError, line)


def _signs_differ(rest: str, b: Operand) -> str:
    return f"{rest} i64.const 0 i64.ne {rest} {b.text} i64.xor i64.const 0 i64.lt_s i32.and"


def divide(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a / b`, a float, correctly rounded: at once where both are floats exactly, else by a routine."""
    _check_divisor(body, b, line)
    if max(_magnitude(a), _magnitude(b)) <= 1 << 53:
        body.put(f"{a.text} f64.convert_i64_s {b.text} f64.convert_i64_s f64.div")
    else:
        body.put(f"{a.text} {b.text}")
        body.call_routine("divide")


def power(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a ** b`; a negative b is a ValueError, since Python's result would be a float."""
    if b.constant == 2:
        multiply(body, a, a, bounds, line)
    else:
        body.put(f"{a.text} {b.text} i64.const {line << 8}")
        body.call_routine("power")


def shift_left(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a << b`, where no bit is lost."""
    _check_shift(body, b, line)
    shifted = f"{a.text} {b.text} i64.shl"
    if within(bounds):
        body.put(shifted)
        return
    if b.high > 63:
        far = f"{b.text} i64.const 63 i64.gt_u"
        body.trap_if(f"{far} {a.text} i64.const 0 i64.ne i32.and", OverflowError, line)  # a zero stays one
    body.put(shifted)
    result = body.keep("i64")
    # where a shift of 64 and more is one of its low bits alone, a is 0
    body.trap_if(f"{result} {b.text} i64.shr_s {a.text} i64.ne", OverflowError, line)
    body.put(result)


def shift_right(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
    """Write `a >> b`; what is shifted out altogether leaves its sign."""
    _check_shift(body, b, line)
    if b.high <= 63:
        body.put(f"{a.text} {b.text} i64.shr_s")
    else:
        body.put(f"{a.text} {b.text} i64.const 63 {b.text} i64.const 63 i64.lt_u select i64.shr_s")


def _check_shift(body: Body, b: Operand, line: int) -> None:
    if b.low < 0:
        body.trap_if(f"{b.text} i64.const 0 i64.lt_s", ValueError, line)


def _bits(sign: str) -> Callable[[Body, Operand, Operand, Bounds, int], None]:
    def put(body: Body, a: Operand, b: Operand, bounds: Bounds, line: int) -> None:
        body.put(f"{a.text} {b.text} i64.{sign}")

    return put


OPERATORS: Mapping[str, Callable[[Body, Operand, Operand, Bounds, int], None]] = {
    "+": add, "-": subtract, "*": multiply, "//": floor_divide, "%": modulo, "/": divide, "**": power,
    "<<": shift_left, ">>": shift_right, "&": _bits("and"), "|": _bits("or"), "^": _bits("xor"),
}  # fmt: skip


def negate(body: Body, a: Operand, line: int) -> None:
    """Write `-a`."""
    _check_not_smallest(body, a, line)
    body.put(f"i64.const 0 {a.text} i64.sub")


def absolute(body: Body, a: Operand, line: int) -> None:
    """Write `abs(a)`."""
    if a.low >= 0:
        body.put(a.text)
        return
    _check_not_smallest(body, a, line)
    sign = f"{a.text} i64.const 63 i64.shr_s"
    body.put(f"{a.text} {sign} i64.xor {sign} i64.sub")


def _check_not_smallest(body: Body, a: Operand, line: int) -> None:
    if a.low == INT_MIN:
        body.trap_if(f"{a.text} i64.const {INT_MIN} i64.eq", OverflowError, line)


def from_float(body: Body, text: str, line: int) -> None:
    """Write the float that a text reads as an int, toward zero; a nan is a ValueError, as in Python."""
    body.trap_if(f"{text} {text} f64.ne", ValueError, line)
    fits = f"{text} f64.const {float(INT_MIN)!r} f64.ge {text} f64.const {-float(INT_MIN)!r} f64.lt i32.and"
    body.trap_if(f"{fits} i32.eqz", OverflowError, line)
    body.put(f"{text} i64.trunc_f64_s")
