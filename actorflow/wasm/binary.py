"""The binary format of WebAssembly: what is needed to write a module, and to read a custom section of any.

Source: WebAssembly Core Specification 2.0, chapter 5. Code is written as text, one instruction after the other with
its immediates (`local.get 0 i64.const 1 i64.add`), since that is what a reader of the specification knows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAGIC = b"\x00asm\x01\x00\x00\x00"
TYPES = {"i32": 0x7F, "i64": 0x7E, "f64": 0x7C, "void": 0x40}
TYPE_SECTION, FUNCTION_TYPE, VECTOR_TYPE = 1, 0x60, 0x7B
MEMORY_KIND, GLOBAL_KIND, FUNCTION_KIND = 2, 3, 0

_CONTROL = {"unreachable": 0x00, "else": 0x05, "end": 0x0B, "return": 0x0F, "drop": 0x1A, "select": 0x1B}
_BLOCKS = {"block": 0x02, "loop": 0x03, "if": 0x04}
_INDEXED = {
    "br": 0x0C, "br_if": 0x0D, "call": 0x10, "local.get": 0x20, "local.set": 0x21, "local.tee": 0x22,
    "global.get": 0x23, "global.set": 0x24,
}  # fmt: skip
_COMPARISONS = ("eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u")
_FLOAT_COMPARISONS = ("eq", "ne", "lt", "gt", "le", "ge")
_INTEGER = (
    "clz", "ctz", "popcnt", "add", "sub", "mul", "div_s", "div_u", "rem_s", "rem_u", "and", "or", "xor", "shl", "shr_s",
    "shr_u", "rotl", "rotr",
)  # fmt: skip
_FLOAT = (
    "abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt", "add", "sub", "mul", "div", "min", "max", "copysign",
)  # fmt: skip
PLAIN: dict[str, int] = {
    **_CONTROL,
    "i32.eqz": 0x45,
    **{f"i32.{name}": 0x46 + number for number, name in enumerate(_COMPARISONS)},
    "i64.eqz": 0x50,
    **{f"i64.{name}": 0x51 + number for number, name in enumerate(_COMPARISONS)},
    **{f"f64.{name}": 0x61 + number for number, name in enumerate(_FLOAT_COMPARISONS)},
    **{f"i32.{name}": 0x67 + number for number, name in enumerate(_INTEGER)},
    **{f"i64.{name}": 0x79 + number for number, name in enumerate(_INTEGER)},
    **{f"f64.{name}": 0x99 + number for number, name in enumerate(_FLOAT)},
    "i32.wrap_i64": 0xA7, "i64.extend_i32_s": 0xAC, "i64.extend_i32_u": 0xAD, "i64.trunc_f64_s": 0xB0,
    "f64.convert_i32_u": 0xB8, "f64.convert_i64_s": 0xB9, "f64.convert_i64_u": 0xBA, "i64.reinterpret_f64": 0xBD,
    "f64.reinterpret_i64": 0xBF,
}  # fmt: skip


def unsigned(value: int) -> bytes:
    """Return a number that is not negative as LEB128."""
    done = bytearray()
    while value > 0x7F:
        done.append(value & 0x7F | 0x80)
        value >>= 7
    done.append(value)
    return bytes(done)


def signed(value: int) -> bytes:
    """Return a number as signed LEB128."""
    done = bytearray()
    while not -0x40 <= value < 0x40:
        done.append(value & 0x7F | 0x80)
        value >>= 7
    done.append(value & 0x7F)
    return bytes(done)


def assemble(text: str) -> bytes:
    """Return instructions as bytes. Raises: KeyError for an instruction that is not known."""
    words = iter(text.split())
    done = bytearray()
    for word in words:
        if word in PLAIN:
            done.append(PLAIN[word])
        elif word in _INDEXED:
            done.append(_INDEXED[word])
            done += unsigned(int(next(words)))
        elif word == "i64.const":
            done += b"\x42" + signed(int(next(words)))
        elif word == "i32.const":
            done += b"\x41" + signed(int(next(words)))
        elif word == "f64.const":
            done += b"\x44" + _float_bytes(float(next(words)))
        elif word == "i64.load8_u":
            done += b"\x31\x00\x00"  # no alignment, no offset
        else:
            done += bytes((_BLOCKS[word], TYPES[next(words)]))
    return bytes(done)


def _float_bytes(value: float) -> bytes:
    """Return a double; there is one nan, whichever this process has made, so that the same source is the same bytes."""
    return struct.pack("<d", value) if value == value else bytes.fromhex("000000000000f87f")  # noqa: PLR0124


def vector(items: list[bytes]) -> bytes:
    """Return items after their count."""
    return unsigned(len(items)) + b"".join(items)


def sized(content: bytes) -> bytes:
    """Return bytes after their length."""
    return unsigned(len(content)) + content


@dataclass(slots=True)
class Module:
    """A module under construction; functions are numbered in the order in which they are added."""

    functions: list[tuple[bytes, bytes]] = field(default_factory=list)
    globals: list[bytes] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)
    customs: list[tuple[str, bytes]] = field(default_factory=list)
    memory_pages_min: int | None = None

    def add_function(self, params: list[str], result: str, locals_: list[str], code: bytes) -> None:
        """Add a function; `locals_` are the types of those behind its parameters."""
        kind = b"\x60" + vector([bytes((TYPES[each],)) for each in params]) + b"\x01" + bytes((TYPES[result],))
        groups: list[tuple[int, str]] = []
        for each in locals_:
            if groups and groups[-1][1] == each:
                groups[-1] = (groups[-1][0] + 1, each)
            else:
                groups.append((1, each))
        declared = vector([unsigned(count) + bytes((TYPES[each],)) for count, each in groups])
        self.functions.append((kind, sized(declared + code + b"\x0b")))

    def add_global(self, kind: str, start: int, *, mutable: bool, export: str | None = None) -> None:
        """Add a global with its first value."""
        if export is not None:
            self.add_export(export, GLOBAL_KIND, len(self.globals))
        self.globals.append(bytes((TYPES[kind], mutable)) + assemble(f"{kind}.const {start} end"))

    def add_memory(self, pages_min: int, *, export: str) -> None:
        """Add the memory; it has no largest size."""
        self.memory_pages_min = pages_min
        self.add_export(export, MEMORY_KIND, 0)

    def add_export(self, name: str, kind: int, index: int) -> None:
        """Let a host see something under a name."""
        self.exports.append(sized(name.encode()) + bytes((kind,)) + unsigned(index))

    def encoded(self) -> bytes:
        """Return the module; the same content is always the same bytes."""
        types = list(dict.fromkeys(kind for kind, _ in self.functions))
        memories = [] if self.memory_pages_min is None else [b"\x00" + unsigned(self.memory_pages_min)]
        sections = (
            (1, types),
            (3, [unsigned(types.index(kind)) for kind, _ in self.functions]),
            (5, memories),
            (6, self.globals),
            (7, self.exports),
            (10, [code for _, code in self.functions]),
        )
        done = MAGIC + b"".join(bytes((number,)) + sized(vector(items)) for number, items in sections if items)
        return done + b"".join(b"\x00" + sized(sized(name.encode()) + content) for name, content in self.customs)


def custom_section(module: bytes, name: str) -> bytes | None:
    """Return what the first custom section of a name holds, or None where there is none.

    The module may be anybody's. Raises: ValueError where it is no WebAssembly module, or is cut short.
    """
    wanted = name.encode()
    for kind, at, end in _sections(module):
        if kind == 0:
            name_size, start = _read_unsigned(module, at, end)
            if name_size > end - start:
                raise ValueError(f"the name of the custom section at byte {at} is longer than the section")
            if module[start : start + name_size] == wanted:
                return bytes(module[start + name_size : end])
    return None


def passes_vectors(module: bytes) -> bool:
    """Return whether a function of a module takes or gives v128, as one value.

    The module may be anybody's. Raises: ValueError where it is no WebAssembly module, or is cut short.
    """
    for kind, start, end in _sections(module):
        if kind == TYPE_SECTION:
            count, at = _read_unsigned(module, start, end)
            for _ in range(min(count, end - start)):
                if at >= end or module[at] != FUNCTION_TYPE:
                    break  # of a proposal that the engine refuses
                at += 1
                for _ in ("parameters", "results"):
                    values, at = _read_unsigned(module, at, end)
                    if VECTOR_TYPE in module[at : min(at + values, end)]:
                        return True
                    at += values
    return False


def _sections(module: bytes) -> Iterator[tuple[int, int, int]]:
    """Iterate over sections: which, where it begins, and where it ends. Raises: ValueError."""
    if module[:8] != MAGIC:
        raise ValueError(f"no core module of WebAssembly 1: it begins with {module[:8].hex(' ')!r}")
    at, end = len(MAGIC), len(module)
    while at < end:
        kind = module[at]
        size, at = _read_unsigned(module, at + 1, end)
        if size > end - at:
            raise ValueError(f"section {kind} at byte {at} has {size} bytes, and {end - at} are left")
        yield kind, at, at + size
        at += size


def _read_unsigned(module: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of at most 32 bits and where it ends. Raises: ValueError."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= end:
            raise ValueError(f"cut short at byte {at}, in a number")
        byte = module[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 32:
                break
            return value, at
    raise ValueError(f"the number before byte {at} has more than 32 bits")
