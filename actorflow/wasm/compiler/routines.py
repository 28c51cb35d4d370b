"""Functions that a module carries where it needs them: what is too long to stand at every place of its use.

They are written down as instructions with named locals. Each says what it relies on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from actorflow.wasm.binary import Module, assemble
from actorflow.wasm.compiler.body import TRAP_INDEX
from actorflow.wasm.compiler.traps import KINDS

_WORD = re.compile(r"\$(\w+)")
_MANTISSA, _HIDDEN = (1 << 52) - 1, 1 << 52


@dataclass(frozen=True, slots=True)
class Routine:
    """A function: its parameters and locals with their types, its result, and its instructions."""

    params: dict[str, str]
    result: str
    locals: dict[str, str]
    text: str


def _trap(kind: type[Exception]) -> str:
    """Return instructions that stop with an exception; the local `site` has the line in its upper bits."""
    return f"local.get $site i64.const {KINDS[kind]} i64.or global.set {TRAP_INDEX} unreachable"


def _magnitude_bits(name: str) -> str:
    return f"local.get ${name} local.get ${name} i64.const 63 i64.shr_s i64.xor i64.clz"


def _small(name: str) -> str:
    return f"local.get ${name} i64.const {1 << 53} i64.add i64.const {1 << 54} i64.le_u"


def _unpack(name: str) -> str:
    """Return instructions that take a finite double apart: |x| = mantissa * 2 ** (exponent - 1075)."""
    return f"""
        local.get ${name} i64.reinterpret_f64 i64.const {_MANTISSA} i64.and local.set ${name}_mantissa
        local.get ${name} i64.reinterpret_f64 i64.const 52 i64.shr_u i64.const 2047 i64.and local.tee ${name}_exponent
        i64.eqz if void i64.const 1 local.set ${name}_exponent
        else local.get ${name}_mantissa i64.const {_HIDDEN} i64.or local.set ${name}_mantissa end
    """


ROUTINES: dict[str, Routine] = {
    # Any product of two ints. With 66 leading zeros (or ones) there are at most 62 bits; else a division tells.
    "multiply": Routine(
        {"a": "i64", "b": "i64", "site": "i64"}, "i64", {"product": "i64"},
        f"""
        local.get $a local.get $b i64.mul local.set $product
        {_magnitude_bits("a")} {_magnitude_bits("b")} i64.add i64.const 66 i64.ge_u
        local.get $a i64.eqz i32.or
        if void local.get $product return end
        local.get $a i64.const -1 i64.eq
        if void
            local.get $b i64.const {-(1 << 63)} i64.eq if void {_trap(OverflowError)} end
            local.get $product return
        end
        local.get $product local.get $a i64.div_s local.get $b i64.ne if void {_trap(OverflowError)} end
        local.get $product
        """,
    ),
    # By squaring. A square is made only where it is a factor of the result, whose other factors are not 0: where it
    # leaves 64 bits, so does the result.
    "power": Routine(
        {"a": "i64", "b": "i64", "site": "i64"}, "i64", {"done": "i64"},
        f"""
        local.get $b i64.const 0 i64.lt_s if void
            local.get $a i64.eqz if void {_trap(ZeroDivisionError)} end
            {_trap(ValueError)}
        end
        i64.const 1 local.set $done
        loop void
            local.get $b i64.const 1 i64.and i64.eqz i32.eqz if void
                local.get $done local.get $a local.get $site call @multiply local.set $done
            end
            local.get $b i64.const 1 i64.shr_u local.tee $b i64.eqz if void local.get $done return end
            local.get $a local.get $a local.get $site call @multiply local.set $a
            br 0
        end
        unreachable
        """,
    ),
    # Correctly rounded, for any a and any b but 0: the quotient gets 63 bits, the last of which says whether there is
    # a rest; rounding that to 53 is rounding the true quotient.
    "divide": Routine(
        {"a": "i64", "b": "i64"}, "f64", {"n": "i64", "d": "i64", "q": "i64", "r": "i64", "shift": "i64", "f": "f64"},
        f"""
        {_small("a")} {_small("b")} i32.and local.get $a i64.eqz i32.or
        if void local.get $a f64.convert_i64_s local.get $b f64.convert_i64_s f64.div return end
        i64.const 0 local.get $a i64.sub local.get $a local.get $a i64.const 0 i64.lt_s select local.set $n
        i64.const 0 local.get $b i64.sub local.get $b local.get $b i64.const 0 i64.lt_s select local.set $d
        local.get $n local.get $d i64.div_u local.set $q
        local.get $n local.get $d i64.rem_u local.set $r
        block void
            loop void
                local.get $q i64.const 62 i64.shr_u i64.eqz i32.eqz br_if 1
                local.get $q i64.const 1 i64.shl local.set $q
                local.get $r i64.const 1 i64.shl local.tee $r
                local.get $d i64.ge_u if void
                    local.get $r local.get $d i64.sub local.set $r
                    local.get $q i64.const 1 i64.or local.set $q
                end
                local.get $shift i64.const 1 i64.add local.set $shift
                br 0
            end
        end
        local.get $q local.get $r i64.const 0 i64.ne i64.extend_i32_u i64.or f64.convert_i64_u
        i64.const 1023 local.get $shift i64.sub i64.const 52 i64.shl f64.reinterpret_i64 f64.mul local.set $f
        local.get $f f64.neg local.get $f local.get $a local.get $b i64.xor i64.const 0 i64.lt_s select
        """,
    ),
    # How an int stands to a float, exactly: -1 below, 0 equal, 1 above, 2 where the float is a nan.
    "order": Routine(
        {"i": "i64", "f": "f64"}, "i32", {"whole": "i64"},
        f"""
        local.get $f local.get $f f64.ne if void i32.const 2 return end
        local.get $f f64.const {2.0**63!r} f64.ge if void i32.const -1 return end
        local.get $f f64.const {-(2.0**63)!r} f64.lt if void i32.const 1 return end
        local.get $f i64.trunc_f64_s local.set $whole
        local.get $i local.get $whole i64.lt_s if void i32.const -1 return end
        local.get $i local.get $whole i64.gt_s if void i32.const 1 return end
        local.get $f f64.trunc local.get $f f64.gt
        local.get $f f64.trunc local.get $f f64.lt i32.sub
        """,
    ),
    # The exact rest of x / y, with the sign of x; y is not 0. With both mantissas over the same power of two, the rest
    # of the integers is the rest; the difference of the exponents is shifted in by as many bits as there is room for.
    "remainder": Routine(
        {"x": "f64", "y": "f64"}, "f64",
        {"x_mantissa": "i64", "x_exponent": "i64", "y_mantissa": "i64", "y_exponent": "i64", "r": "i64", "d": "i64",
         "step": "i64"},
        f"""
        local.get $x f64.abs local.get $y f64.abs f64.lt if void local.get $x return end
        local.get $x f64.abs f64.const inf f64.lt local.get $y local.get $y f64.eq i32.and i32.eqz
        if void f64.const nan return end
        {_unpack("x")} {_unpack("y")}
        local.get $x_exponent local.get $y_exponent i64.sub local.set $d
        local.get $x_mantissa local.get $y_mantissa i64.rem_u local.set $r
        block void
            loop void
                local.get $d i64.eqz local.get $r i64.eqz i32.or br_if 1
                local.get $d i64.const 11 local.get $d i64.const 11 i64.lt_u select local.set $step
                local.get $r local.get $step i64.shl local.get $y_mantissa i64.rem_u local.set $r
                local.get $d local.get $step i64.sub local.set $d
                br 0
            end
        end
        local.get $r i64.const 52 i64.shr_u i64.eqz
        if f64
            local.get $y_exponent i64.const 52 i64.shl local.get $r i64.or f64.reinterpret_i64
            local.get $y_exponent i64.const 52 i64.shl f64.reinterpret_i64 f64.sub
        else
            local.get $y_exponent i64.const 1 i64.sub i64.const 52 i64.shl local.get $r i64.add f64.reinterpret_i64
        end
        local.get $x f64.copysign
        """,
    ),
    # As CPython's float_rem (Objects/floatobject.c) defines it; y is not 0.
    "float_modulo": Routine(
        {"x": "f64", "y": "f64"}, "f64", {"m": "f64"},
        """
        local.get $x local.get $y call @remainder local.tee $m
        f64.const 0.0 f64.eq if void f64.const 0.0 local.get $y f64.copysign return end
        local.get $y f64.const 0.0 f64.lt local.get $m f64.const 0.0 f64.lt i32.ne
        if void local.get $m local.get $y f64.add return end
        local.get $m
        """,
    ),
    # As CPython's float_floor_div defines it; y is not 0.
    "float_floor": Routine(
        {"x": "f64", "y": "f64"}, "f64", {"m": "f64", "q": "f64", "whole": "f64"},
        """
        local.get $x local.get $y call @remainder local.set $m
        local.get $x local.get $m f64.sub local.get $y f64.div local.set $q
        local.get $m f64.const 0.0 f64.ne
        local.get $y f64.const 0.0 f64.lt local.get $m f64.const 0.0 f64.lt i32.ne i32.and
        if void local.get $q f64.const 1.0 f64.sub local.set $q end
        local.get $q f64.const 0.0 f64.eq
        if void f64.const 0.0 local.get $x local.get $y f64.div f64.copysign return end
        local.get $q f64.floor local.set $whole
        local.get $q local.get $whole f64.sub f64.const 0.5 f64.gt
        if void local.get $whole f64.const 1.0 f64.add return end
        local.get $whole
        """,
    ),
}  # fmt: skip


def add_routine(module: Module, name: str, number_of: Callable[[str], int]) -> None:
    """Add a routine to a module; `number_of` says which number another has, or will have."""
    routine = ROUTINES[name]
    numbers = {each: number for number, each in enumerate((*routine.params, *routine.locals))}
    text = _WORD.sub(lambda found: str(numbers[found[1]]), routine.text)
    text = re.sub(r"@(\w+)", lambda found: str(number_of(found[1])), text)
    module.add_function(list(routine.params.values()), routine.result, list(routine.locals.values()), assemble(text))
