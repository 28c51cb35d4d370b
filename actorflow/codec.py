"""Items as bytes: MessagePack with a few extension types, so that near and far mean the same.

Plain values are encoded as any MessagePack library encodes them. What MessagePack does not know is an extension:

    code 1  an object of a registered type (dataclass, msgspec.Struct, enum): [name, fields]
    code 2  tuple        code 3  set        code 4  frozenset        code 5  an integer beyond 64 bits, as text
    code 6  Address      code 7  an ActorflowError                   code 8  a map whose keys are not scalars
    code 9  a value of the standard library: datetime, date, time, timedelta, Decimal, Fraction, UUID, complex, range

A type is registered when the program names it in a stream or an operator, or when a value of it is first sent from this
process. Decoding never imports, and makes only types that are registered here: a foreign name is a `CodecError`.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import uuid
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec

from actorflow.address import Address
from actorflow.errors import ActorflowError, CodecError, from_wire, summary

OBJECT, TUPLE, SET, FROZENSET, BIG_INTEGER, ADDRESS, ERROR, MAP, SCALAR = range(1, 10)

_INTEGER_MIN, _INTEGER_MAX = -(1 << 63), (1 << 64) - 1
_IMMUTABLE = frozenset({int, str, float, bool, bytes, type(None), complex, range, Address})
_PLAIN = frozenset({str, float, bool, bytes, type(None)})
_KEYS = frozenset({str, int, bool, float, bytes, type(None)})
_SCALARS: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    datetime.datetime: (datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.date: (datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: (datetime.time.isoformat, datetime.time.fromisoformat),
    datetime.timedelta: (
        lambda span: [span.days, span.seconds, span.microseconds],
        lambda parts: datetime.timedelta(*parts),
    ),
    decimal.Decimal: (str, decimal.Decimal),
    fractions.Fraction: (str, fractions.Fraction),
    uuid.UUID: (str, uuid.UUID),
    complex: (lambda value: [value.real, value.imag], lambda parts: complex(*parts)),
    range: (lambda value: [value.start, value.stop, value.step], lambda parts: range(*parts)),
}
_SCALAR_NAMES = {kind.__name__: kind for kind in _SCALARS}

_encoder = msgspec.msgpack.Encoder()
_types: dict[str, type] = {}


def type_name(kind: type) -> str:
    """Return the name a type has on the wire."""
    return f"{kind.__module__}:{kind.__qualname__}"


def register(kind: type) -> None:
    """Let values of a dataclass, Struct, enum or exception class arrive here as what they were."""
    _types[type_name(kind)] = kind


def encode(value: object) -> bytes:
    """Encode one value; tuples, sets, big integers and registered types keep what they are.

    Raises: CodecError when the value, or something in it, cannot be encoded.
    """
    try:
        return _encoder.encode(_tagged(value))
    except RecursionError:
        raise CodecError(f"a value nests too deeply or contains itself: {type(value).__name__}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"cannot encode {summary(value)}: {error}") from error


def plain(value: Any) -> Any:
    """Return plain values in place of what MessagePack and JSON libraries do not know (an encoder's hook).

    Raises: TypeError when there is none.
    """
    if isinstance(value, ActorflowError):
        return value.to_wire()
    if isinstance(value, (set, frozenset, range)):
        return list(value)
    if isinstance(value, Address):
        return repr(value)
    return msgspec.to_builtins(value)


def decode(data: bytes | bytearray | memoryview) -> Any:
    """Decode what `encode` made.

    Raises: CodecError for bytes that are cut short, or that name a type which is not registered here.
    """
    try:
        return msgspec.msgpack.decode(data, strict=False, ext_hook=_untagged)
    except CodecError:
        raise
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"cannot decode {len(data)} bytes: {error}") from error


def decode_untrusted(data: bytes, *, nesting_depth: int, ext: bool = True) -> Any:
    """Decode bytes from outside: containers no larger than the bytes, nesting bounded, duplicate keys refused.

    Raises: CodecError.
    """
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            object_pairs_hook=_unique,
            ext_hook=_untagged_untrusted if ext else _refused,
        )
    except CodecError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError, OverflowError) as error:
        raise CodecError(f"malformed MessagePack: {error or type(error).__name__}") from error
    if _deeper(value, nesting_depth):
        raise CodecError(f"values nest deeper than {nesting_depth} levels")
    return value


def handed_over(value: object) -> Any:
    """Return the value as it would arrive on another host: encoded and decoded once."""
    return value if type(value) in _IMMUTABLE else decode(encode(value))


def copy_if_mutable(value: Any) -> Any:
    """Return a copy that the receiver may change, or the value itself where nobody can change it."""
    if type(value) in _IMMUTABLE:
        return value
    if type(value) is tuple and all(type(part) in _IMMUTABLE for part in value):
        return value
    return copy.deepcopy(value)


def _tagged(value: Any) -> Any:
    """Return the value with extensions in place of what MessagePack does not know."""
    kind = type(value)
    if kind is int:
        return value if _INTEGER_MIN <= value <= _INTEGER_MAX else _big(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return value if _all_plain(value) else [_tagged(part) for part in value]
    if kind is dict:
        if not _KEYS.issuperset(map(type, value)):
            return _extension(MAP, [[_tagged(key), _tagged(part)] for key, part in value.items()])
        if _all_plain(value.values()):
            return value
        return {key: _tagged(part) for key, part in value.items()}
    if kind is tuple:
        return _extension(TUPLE, value if _all_plain(value) else [_tagged(part) for part in value])
    if kind is Address:
        return _extension(ADDRESS, [value.host, value.number, value.name])
    if kind is set or kind is frozenset:
        return _extension(SET if kind is set else FROZENSET, [_tagged(part) for part in value])
    if kind in _SCALARS:
        return _extension(SCALAR, [kind.__name__, _SCALARS[kind][0](value)])
    if isinstance(value, ActorflowError):
        return _extension(ERROR, value.to_wire())
    return _tagged_object(value, kind)


def _all_plain(values: Any) -> bool:
    """Return whether every value can be encoded as it is; looks at the types in C, not value by value."""
    kinds = set(map(type, values))
    return _PLAIN.issuperset(kinds) or (kinds == {int} and min(values) >= _INTEGER_MIN and max(values) <= _INTEGER_MAX)


def _big(value: int) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(BIG_INTEGER, hex(value).encode())


def _tagged_object(value: Any, kind: type) -> Any:
    if isinstance(value, enum.Enum):
        register(kind)
        return _extension(OBJECT, [type_name(kind), _tagged(value.value)])
    if dataclasses.is_dataclass(kind):
        register(kind)
        fields = {field.name: _tagged(getattr(value, field.name)) for field in dataclasses.fields(kind)}
        return _extension(OBJECT, [type_name(kind), fields])
    if isinstance(value, msgspec.Struct):
        register(kind)
        return _extension(
            OBJECT, [type_name(kind), {name: _tagged(getattr(value, name)) for name in value.__struct_fields__}]
        )
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"objects of type {type_name(kind)} cannot travel; make it a dataclass or a msgspec.Struct")


def _extension(code: int, value: Any) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, _encoder.encode(value))


def _untagged_untrusted(code: int, data: bytes) -> Any:
    return _untagged(code, memoryview(data))


def _refused(code: int, data: bytes) -> Any:
    raise CodecError(f"extension type {code} is not allowed here")


def _untagged(code: int, data: memoryview) -> Any:
    if code == BIG_INTEGER:
        return int(bytes(data), 16)
    value = msgspec.msgpack.decode(data, strict=False, ext_hook=_untagged)
    if code == TUPLE:
        return tuple(value)
    if code == SET:
        return set(value)
    if code == FROZENSET:
        return frozenset(value)
    if code == MAP:
        return {key: part for key, part in value}  # noqa: C416 - a pair of the wrong length must raise here
    if code == ADDRESS:
        host, number, name = value
        return Address(str(host), int(number), str(name))
    if code == ERROR:
        return from_wire(value)
    if code == OBJECT:
        return _rebuilt(*value)
    if code == SCALAR and value[0] in _SCALAR_NAMES:
        return _SCALARS[_SCALAR_NAMES[value[0]]][1](value[1])
    raise CodecError(f"unknown extension type {code}")


def _rebuilt(name: str, fields: Any) -> Any:
    kind = _types.get(name)
    if kind is None:
        raise CodecError(f"type {name!r} is not known here: name it in a stream or an operator of the app")
    if issubclass(kind, enum.Enum):
        return kind(fields)
    made: Any = object.__new__(kind) if dataclasses.is_dataclass(kind) else None
    if made is None:
        return kind(**fields)
    expected = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type] # it is a dataclass
    if set(fields) != expected:
        raise CodecError(f"{name} has the fields {sorted(expected)}, received {sorted(fields)}")
    for field, value in fields.items():
        object.__setattr__(made, field, value)  # a frozen dataclass arrives as it was, without running its checks twice
    return made


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise CodecError("a map names the same key twice")
    return unique


def _deeper(value: Any, depth: int) -> bool:
    """Return whether containers nest deeper than `depth`; walks level by level, so it cannot recurse away."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            part
            for container in level
            if isinstance(container, (list, dict, tuple))
            for part in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return False
    return True
