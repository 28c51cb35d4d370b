"""The commands of examples/wasm/conformance.md, in Python that is compiled to WASM.

MessagePack is written out below, as small as it goes: nothing can be installed into a component but pure Python.
"""

from __future__ import annotations

import struct
from typing import Any

from wit_world import WitWorld as World
from wit_world.imports import host

ITEMS, REPLY, FEEDBACK, ERROR, LOG, PUT, DELETE, ADD, REMOVE = range(9)
VERBS = {"reply": REPLY, "typed_error": ERROR, "log": LOG, "put": PUT, "delete": DELETE, "add": ADD, "remove": REMOVE}


class WitWorld(World):
    """What the world `actorflow:function` exports."""

    def process(self, batch: bytes) -> bytes:
        items, _ = read(batch, 0)
        return b"".join([head(0x90, 0xDC, len(items)), *(write(outcome(*item)) for item in items)])


def outcome(command: str, argument: Any) -> Any:
    match command, argument:
        case "echo", _:
            return [ITEMS, [argument]]
        case "bare", _:
            return argument
        case "nothing", _:
            return None
        case "several", count:
            return [ITEMS, list(range(count))]
        case "error", _:
            return [ITEMS, ["dropped"], ERROR, argument]
        case "collatz", [1, trips]:
            return [ITEMS, [trips]]
        case "collatz", [n, trips]:
            return [FEEDBACK, ["collatz", [3 * n + 1 if n % 2 else n // 2, trips + 1]]]
        case "trips", n:
            return [ITEMS, [host.round()]] if host.round() >= n else [FEEDBACK, ["trips", n]]
        case "host_log", line:
            return host.log(line)
        case "clock", _:
            return [ITEMS, [host.clock_s()]]
        case "deadline", _:
            return [ITEMS, [host.deadline_s()]]
        case "request_id", _:
            return [ITEMS, [host.request_id()]]
        case "trap", _:
            raise RuntimeError("a trap")
        case "spin", _:
            while True:
                pass
        case _ if command in VERBS:
            return [VERBS[command], argument]
        case _, [str(cell), key, *value]:
            return of_cell(command, argument, cell, write(key), *map(write, value))
    return [ERROR, "no such command"]


def of_cell(command: str, argument: Any, cell: str, key: bytes, value: bytes = b"") -> Any:
    match command:
        case "host_put":
            return host.put(cell, key, value)
        case "host_delete":
            return host.delete(cell, key)
        case "host_add":
            return host.add(cell, key, value)
        case "host_remove":
            return host.remove(cell, key, value)
        case "put_then_error":
            host.put(cell, key, value)
            return [PUT, argument, ERROR, "after"]
        case "get" | "room" | "sum":
            found = host.get(cell, key)
        case _:
            return [ERROR, "no such command"]
    if command == "get":
        return [ITEMS, ["absent" if found is None else read(found, 0)[0]]]
    if command == "room":
        return [ITEMS, [[-1, False] if found is None else [len(found), len(found) <= argument[2]]]]
    total = argument[2] + (0 if found is None else read(found, 0)[0])
    host.put(cell, key, write(total))
    return [ITEMS, [[argument[1], total]]]


# -- MessagePack

NUMBERS = {0xCA + n: f">{code}" for n, code in enumerate("fdBHIQbhiq")}
SIZED = ((0x80, 0xDD), (0x90, 0xDB), (0xA0, 0xD9), (0xC4, 0xC4))
"""Maps, arrays, text, bytes: what they are, and the tag for which the length is the next byte."""
PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}


def read(data: bytes, at: int) -> tuple[Any, int]:
    """Return the value at a place, and where the next one is."""
    tag = data[at]
    at += 1
    if tag < 0x80 or tag >= 0xE0:
        return tag - (tag >> 7 << 8), at
    if tag in PLAIN:
        return PLAIN[tag], at
    if form := NUMBERS.get(tag):
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if tag < 0xC0:
        kind, length = min(tag & 0xF0, 0xA0), tag & (31 if tag >= 0xA0 else 15)
    else:
        kind, first = next(one for one in SIZED if tag > one[1] - (one[0] > 0x90))
        size = 1 << (tag - first)
        length = int.from_bytes(data[at : at + size], "big")
        at += size
    if kind == 0xC4:
        return data[at : at + length], at + length
    if kind == 0xA0:
        return data[at : at + length].decode(), at + length
    values = []
    for _ in range(length if kind == 0x90 else 2 * length):
        value, at = read(data, at)
        values.append(value)
    return (values if kind == 0x90 else dict(zip(values[::2], values[1::2], strict=True))), at


def head(small: int, large: int, length: int, most: int = 15) -> bytes:
    if length <= most:
        return bytes((small | length,))
    for size in (1, 2, 4):
        if length >> 8 * size == 0 and (size > 1 or large == 0xD9):
            return bytes((large + (size >> 1) - (large != 0xD9),)) + length.to_bytes(size, "big")
    raise ValueError(length)


def write(value: Any) -> bytes:
    """Return a value in its shortest form."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            if -32 <= value < 128:
                return bytes((value & 255,))
            tags = range(0xCC, 0xD0) if value >= 0 else range(0xD0, 0xD4)
            for tag in tags:
                try:
                    return bytes((tag,)) + struct.pack(NUMBERS[tag], value)
                except struct.error:
                    continue
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            data = value.encode()
            return head(0xA0, 0xD9, len(data), 31) + data
        case bytes():
            size = next(size for size in (0, 1, 2) if len(value) >> (8 << size) == 0)
            return bytes((0xC4 + size,)) + len(value).to_bytes(1 << size, "big") + value
        case list() | tuple():
            return b"".join([head(0x90, 0xDC, len(value)), *map(write, value)])
        case dict():
            return b"".join([head(0x80, 0xDE, len(value)), *(write(key) + write(each) for key, each in value.items())])
    raise TypeError(f"{value!r} has no form in MessagePack")
