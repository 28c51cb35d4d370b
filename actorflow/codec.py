"""Items as bytes: MessagePack with a few extension types, so that near and far mean the same.

Plain values are encoded as any MessagePack library encodes them. What MessagePack does not know is an extension:

    code 1  an object of a registered type (dataclass, msgspec.Struct, enum): [name, fields]
    code 2  tuple        code 3  set        code 4  frozenset        code 5  an integer beyond 64 bits, as text
    code 6  Address      code 7  an ActorflowError                   code 8  a map whose keys are not scalars
    code 9  a value of the standard library: datetime, date, time, timedelta, Decimal, Fraction, UUID, complex, range

A type is registered when the program names it, or a type that has it inside, in a stream or a cell, or when a value of
it is first sent from this process. Decoding never imports. What comes from outside makes only types that are registered
here, what this software has written also others of modules that are loaded: a foreign name is a `CodecError`.

Bytes come from a host of ours (`decode`) or from outside (`decode_untrusted`). From outside, nesting, the size of
numbers and the count of keys with one hash are bounded, and a dataclass is made by its constructor, which checks it.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import operator
import sys
import typing
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgpack
import msgspec

from actorflow.address import Address
from actorflow.errors import ActorflowError, CodecError, from_wire, summary

OBJECT, TUPLE, SET, FROZENSET, BIG_INTEGER, ADDRESS, ERROR, MAP, SCALAR = range(1, 10)
TIMESTAMP = -1  # MessagePack's own; a datetime of ours is a SCALAR, which keeps its zone

DIGITS_MAX = 4_300
"""Digits of a number from outside: as many as Python itself reads from text."""
INTEGER_BITS_MAX = 14_000
"""Bits of an integer from outside: about as many digits."""
EXPONENT_MAX = 6_176
"""Power of ten of a Decimal from outside: the range of IEEE 754 decimal128."""
SAME_HASH_MAX = 64
"""Keys of one map or members of one set from outside that may have the hash of another: n of them cost n² to insert."""

_INTEGER_MIN, _INTEGER_MAX = -(1 << 63), (1 << 64) - 1
_IMMUTABLE = frozenset({int, str, float, bool, bytes, type(None), complex, range, Address})
_PLAIN = frozenset({str, float, bool, bytes, type(None)})
_KEYS = _PLAIN | {int}


def _decimal(text: str) -> decimal.Decimal:
    if type(text) is not str:
        raise TypeError("a Decimal is sent as text")
    return decimal.Decimal(text)


def _fraction(parts: Sequence[int]) -> fractions.Fraction:
    numerator, denominator = parts
    # index() refuses text: of "1e9999999" a Fraction would compute the power of ten
    return fractions.Fraction(operator.index(numerator), operator.index(denominator))


_SCALARS: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    datetime.datetime: (
        lambda moment: [moment.isoformat(), moment.fold],
        lambda parts: datetime.datetime.fromisoformat(parts[0]).replace(fold=parts[1]),
    ),
    datetime.date: (datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: (
        lambda moment: [moment.isoformat(), moment.fold],
        lambda parts: datetime.time.fromisoformat(parts[0]).replace(fold=parts[1]),
    ),
    datetime.timedelta: (
        lambda span: [span.days, span.seconds, span.microseconds],
        lambda parts: datetime.timedelta(*parts),
    ),
    decimal.Decimal: (str, _decimal),
    fractions.Fraction: (lambda value: [value.numerator, value.denominator], _fraction),
    uuid.UUID: (str, uuid.UUID),
    complex: (lambda value: [value.real, value.imag], lambda parts: complex(*parts)),
    range: (lambda value: [value.start, value.stop, value.step], lambda parts: range(*parts)),
}
_SCALAR_NAMES = {kind.__name__: kind for kind in _SCALARS}

_encoder = msgspec.msgpack.Encoder()
_ordered_encoder = msgspec.msgpack.Encoder(order="deterministic")
_plain_bytes: Callable[[object], bytes] = msgpack.Packer(strict_types=True).pack
"""Encodes what is plain all through, and raises for anything else: it looks at the types in C, and calls nothing."""
_types: dict[str, type] = {}


def type_name(kind: type) -> str:
    """Return the name a type has on the wire."""
    return f"{kind.__module__}:{kind.__qualname__}"


def register(kind: type) -> None:
    """Let values of a dataclass, Struct, enum or exception class arrive here as what they were."""
    _types[type_name(kind)] = kind


def register_all(annotation: Any) -> None:
    """Register every class that an annotation names, however deep: of fields, of elements, of unions."""
    todo, seen = [annotation], set()
    while todo:
        kind = todo.pop()
        todo.extend(typing.get_args(kind))
        if not isinstance(kind, type) or kind in seen:
            continue
        seen.add(kind)
        if kind.__module__ == "builtins" or not hasattr(kind, "__mro__"):
            continue
        register(kind)
        try:
            todo.extend(typing.get_type_hints(kind).values())
        except Exception:  # noqa: S112 - names that are defined nowhere yet: what they mean is known when a value is seen
            continue


def fingerprint(value: object) -> bytes:
    """Return bytes that are the same for the same value, whatever the order of entries; not to be decoded.

    Raises: CodecError when the value, or something in it, cannot be encoded.
    """
    try:
        return _ordered_encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):  # something that only `encode` knows
        return encode(value)


def encode(value: object) -> bytes:
    """Encode one value; tuples, sets, big integers and registered types keep what they are.

    Raises: CodecError when the value, or something in it, cannot be encoded.
    """
    try:
        if type(value) in _KEYS:
            try:
                return _encoder.encode(value)
            except OverflowError:  # an integer that MessagePack does not know
                pass
        try:
            return _plain_bytes(value)
        except (TypeError, ValueError, OverflowError, BufferError):
            pass
        return _encoder.encode(_tagged(value))
    except RecursionError:
        raise CodecError(f"a value nests too deeply or contains itself: {type(value).__name__}") from None
    except (TypeError, ValueError, OverflowError, BufferError) as error:
        raise CodecError(f"cannot encode {summary(value)}: {error}") from error


def encode_key(key: object) -> bytes:
    """Encode a key so that equal ones have the same bytes: 1, 1.0 and True, or two sets in whatever order.

    Raises: CodecError.
    """
    kind = type(key)
    return encode(key if kind is str or kind is int or kind is bytes else _plainest(key))


def _plainest(key: Any) -> Any:
    """Return the plainest of all keys that are equal to one."""
    kind = type(key)
    if kind is tuple:
        return tuple(map(_plainest, key))
    if kind is frozenset:
        return frozenset(map(_plainest, key))
    if isinstance(key, enum.Enum):
        return _plainest(key.value) if isinstance(key, (int, str)) else key
    if isinstance(key, (bool, int, float, complex, decimal.Decimal, fractions.Fraction)):
        for plainer in (int, float):
            try:
                if plainer(key) == key:  # type: ignore[arg-type] # a complex number is none, and says so
                    return plainer(key)  # type: ignore[arg-type]
            except (TypeError, ValueError, OverflowError):
                continue
    if kind is datetime.datetime and key.tzinfo is not None:
        return key.astimezone(datetime.UTC)
    if dataclasses.is_dataclass(kind):
        return _rebuilt(kind, {each.name: _plainest(getattr(key, each.name)) for each in dataclasses.fields(kind)})
    if isinstance(key, msgspec.Struct):
        return msgspec.structs.replace(key, **{name: _plainest(getattr(key, name)) for name in key.__struct_fields__})
    return key


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
    except Exception as error:  # what constructors and hash functions raise for contents that nobody encoded
        raise CodecError(f"cannot decode {len(data)} bytes: {_words(error)}") from error


CONTAINERS_MAX = 200_000
"""Arrays and maps in one message from outside."""

ITEMS_MAX = 1_000_000
"""Items in one array or map from outside."""


def decode_untrusted(data: bytes, *, nesting_depth: int, ext: bool = True) -> Any:
    """Decode bytes from outside: containers no larger than the bytes, nesting bounded, duplicate keys refused.

    Each list, map and extension is a level of nesting. `ext` False refuses every extension.

    Raises: CodecError.
    """
    if len(data) <= QUICK_BYTES_MAX and (plain := _quickly(data, nesting_depth)) is not None:
        return plain
    try:
        return _Outside(nesting_depth, ext=ext).opened(data)
    except CodecError:
        raise
    except Exception as error:  # as in decode(), and the bytes are anybody's
        raise CodecError(f"malformed MessagePack: {_words(error)}") from error


QUICK_BYTES_MAX, QUICK_CONTAINERS_MAX, QUICK_WIDE_MAX = ITEMS_MAX, 20_000, 1_000
_NO_CONTAINERS = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))
_WIDE = (b"\xcb", b"\xcf", b"\xd3")
"""Numbers of nine bytes: keys that have one hash are among these."""


def _quickly(data: bytes, nesting_depth: int) -> Any:
    """Return the value of bytes that are plain and beyond suspicion; None for all others, which are looked at closely.

    That is a tenth of the work. No key can be there twice, or be no scalar, since what was read makes the same bytes.
    """
    containers = containers_at_most(data)
    if containers > QUICK_CONTAINERS_MAX:
        return None
    if len(data) > 9 * QUICK_WIDE_MAX and sum(map(data.count, _WIDE)) > QUICK_WIDE_MAX:
        return None
    try:
        value = _plain_value(data)
        if _plain_bytes(value) == data and (containers <= nesting_depth or _is_within(value, nesting_depth)):
            return value
    except Exception:  # whatever it is, who looks closely says it better
        return None
    return None


def containers_at_most(data: bytes) -> int:
    """Return how many arrays and maps there may be in some bytes: those, and what looks like one."""
    return len(data.translate(None, _NO_CONTAINERS))


def _no_extension(code: int, data: memoryview) -> Any:
    raise CodecError(f"extension {code} is not plain")


_plain_value = msgspec.msgpack.Decoder(ext_hook=_no_extension).decode


def _is_within(value: Any, most: int) -> bool:
    """Return whether a plain value nests no deeper than allowed; a level at a time."""
    level = [value] if type(value) is list or type(value) is dict else []
    for _ in range(most):
        if not level:
            return True
        level = [
            part
            for each in level
            for part in (each.values() if isinstance(each, dict) else each)
            if type(part) is list or type(part) is dict
        ]
    return not level


def handed_over(value: object) -> Any:
    """Return the value as it would arrive on another host: encoded and decoded once."""
    return value if type(value) in _IMMUTABLE else decode(encode(value))


def copy_if_mutable(value: Any) -> Any:
    """Return a copy that the receiver may change, or the value itself where nobody can change it."""
    if type(value) in _IMMUTABLE:
        return value
    if type(value) is tuple and _IMMUTABLE.issuperset(map(type, value)):
        return value
    try:
        return value if _is_immutable(value) else copy.deepcopy(value)
    except RecursionError:
        raise CodecError(f"a value nests too deeply to be copied: {type(value).__name__}") from None


def _is_immutable(value: Any) -> bool:
    """Return whether nothing in a value can be changed: frozen dataclasses and Structs, tuples and scalars."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(_is_immutable, value))
    if kind not in _frozen_fields:
        _frozen_fields[kind] = _reader_if_frozen(kind)
    fields = _frozen_fields[kind]
    if fields is None:
        return False
    try:
        parts = fields(value)
    except AttributeError:  # one was never set
        return False
    return _IMMUTABLE.issuperset(map(type, parts)) or all(map(_is_immutable, parts))


_frozen_fields: dict[type, Callable[[Any], Iterable[Any]] | None] = {}
"""What reads all fields of an instance, for classes that are frozen."""


def _reader_if_frozen(kind: type) -> Callable[[Any], Iterable[Any]] | None:
    """Return what reads the fields of a class whose instances cannot be assigned to, None for any other class."""
    names = _fields_if_frozen(kind)
    if names is None:
        return None
    if len(names) < 2:
        return lambda value: [getattr(value, name, None) for name in names]
    return operator.attrgetter(*names)


def _fields_if_frozen(kind: type) -> tuple[str, ...] | None:
    """Return the fields of a class whose instances cannot be assigned to, None for any other class."""
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__ if kind.__struct_config__.frozen and not hasattr(kind, "__dict__") else None
    plain_class: Any = kind
    parameters = kind.__dict__.get("__dataclass_params__")
    if parameters is None or not parameters.frozen or kind.__mro__[1:] != (object,):
        return None
    return tuple(field.name for field in dataclasses.fields(plain_class))


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
        if not (_PLAIN.issuperset(map(type, value)) or _plain_keys(value)):
            return _extension(MAP, [[_tagged(key), _tagged(part)] for key, part in value.items()])
        if _all_plain(value.values()):
            return value
        return {key: _tagged(part) for key, part in value.items()}
    if kind is tuple:
        return _extension(TUPLE, value if _all_plain(value) else [_tagged(part) for part in value])
    if kind is Address:
        return _extension(ADDRESS, [value.host, value.number, value.name])
    if kind is set or kind is frozenset:
        return _extension(SET if kind is set else FROZENSET, _in_one_order(value))
    if kind in _SCALARS:
        return _extension(SCALAR, [kind.__name__, _tagged(_SCALARS[kind][0](value))])
    if isinstance(value, ActorflowError):
        return _extension(ERROR, value.to_wire())
    return _tagged_object(value, kind)


def _in_one_order(parts: Iterable[Any]) -> list[Any]:
    """Return the parts of a set in an order that depends on nothing but them."""
    tagged = [_tagged(part) for part in parts]
    try:
        return sorted(tagged)
    except TypeError:
        return sorted(tagged, key=_encoder.encode)


def _all_plain(values: Any) -> bool:
    """Return whether every value can be encoded as it is; looks at the types in C, not value by value."""
    kinds = set(map(type, values))
    return _PLAIN.issuperset(kinds) or (kinds == {int} and min(values) >= _INTEGER_MIN and max(values) <= _INTEGER_MAX)


def _plain_keys(keys: Iterable[Any]) -> bool:
    """Return whether MessagePack has all these keys: scalars, and integers of no more than 64 bits."""
    return _all_plain(keys) or (
        _KEYS.issuperset(map(type, keys))
        and all(_INTEGER_MIN <= key <= _INTEGER_MAX for key in keys if type(key) is int)
    )


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


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


# -- extensions from a host of ours


def _untagged(code: int, data: memoryview) -> Any:
    if code == BIG_INTEGER:
        return int(bytes(data), 16)
    content = msgspec.msgpack.decode(data, strict=False, ext_hook=_untagged)
    if code == MAP:
        return {key: part for key, part in content}  # noqa: C416 - a pair of the wrong length must raise here
    if code == OBJECT:
        name, fields = content
        return _rebuilt(_types.get(name) or _type_of_ours(name), fields)
    return _simple(code, content)


def _type_of_ours(name: str) -> type:
    """Return a class whose values this software has written: one of a module that is loaded. None is imported here."""
    module_name, _, path = name.partition(":")
    kind: Any = sys.modules.get(module_name)
    for part in path.split("."):
        kind = getattr(kind, part, None)
    fits = isinstance(kind, type) and (
        dataclasses.is_dataclass(kind) or issubclass(kind, (msgspec.Struct, enum.Enum)) or issubclass(kind, Exception)
    )
    if not fits or type_name(kind) != name:
        return _known_type(name)
    register(kind)
    return kind  # type: ignore[no-any-return] # it is a class, as was just seen


def _simple(code: int, content: Any) -> Any:
    """Return what an extension stands for that is made in the same way wherever it comes from."""
    if code == TUPLE:
        return tuple(content)
    if code == SET:
        return set(content)
    if code == FROZENSET:
        return frozenset(content)
    if code == ADDRESS:
        host, number, name = content
        return Address(str(host), int(number), str(name))
    if code == ERROR:
        return from_wire(content)
    if code == SCALAR and content[0] in _SCALAR_NAMES:
        return _SCALARS[_SCALAR_NAMES[content[0]]][1](content[1])
    raise CodecError(f"unknown extension type {code}")


def _known_type(name: str) -> type:
    kind = _types.get(name)
    if kind is None:
        raise CodecError(f"type {name!r} is not known here: name it in a stream or an operator of the app")
    return kind


def _rebuilt(kind: type, fields: Any) -> Any:
    """Return an object as it was: a dataclass without running its checks twice, frozen or not."""
    if not dataclasses.is_dataclass(kind):
        return _constructed(kind, fields)
    _check_fields(kind, fields)
    made: Any = object.__new__(kind)
    for field, value in fields.items():
        object.__setattr__(made, field, value)
    return made


def _constructed(kind: type, fields: Any) -> Any:
    """Return an object that its constructor has made of the fields, and checked."""
    if issubclass(kind, enum.Enum):
        return kind(fields)
    if dataclasses.is_dataclass(kind):
        _check_fields(kind, fields)
        return kind(**{field.name: fields[field.name] for field in dataclasses.fields(kind) if field.init})
    if issubclass(kind, msgspec.Struct):
        return kind(**fields)
    raise CodecError(f"{type_name(kind)} is no dataclass, msgspec.Struct or enum")


def _check_fields(kind: Any, fields: Any) -> None:
    expected = {field.name for field in dataclasses.fields(kind)}
    if set(fields) != expected:
        raise CodecError(f"{type_name(kind)} has the fields {sorted(expected)}, received {sorted(fields)}")


# -- bytes from outside


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise CodecError("a map names the same key twice")
    return unique


class _Outside:
    """Makes the value of what MessagePack knows, from the outermost container inwards, within the limits."""

    __slots__ = ("_containers", "_ext", "_nesting_depth")

    def __init__(self, nesting_depth: int, *, ext: bool) -> None:
        self._nesting_depth = nesting_depth
        self._ext = ext
        self._containers = 0

    def opened(self, data: bytes) -> Any:
        """Return the value of a whole message."""
        return self.value(self._unpacked(data), 0)

    def _unpacked(self, data: bytes) -> Any:
        """Decode one layer: extensions stay closed, so that whoever opens them knows how deep they are."""
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            object_pairs_hook=self._map,
            list_hook=self._list,
            ext_hook=msgspec.msgpack.Ext,
            max_array_len=ITEMS_MAX,
            max_map_len=ITEMS_MAX,
            timestamp=3,  # extension -1: as a datetime, which is what msgspec makes of it
        )

    def _map(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        self._count()
        return _unique(pairs)

    def _list(self, values: list[Any]) -> list[Any]:
        self._count()
        return values

    def _count(self) -> None:
        """Refuse a message that is made of containers: an empty map is one byte on the wire and sixty-four here."""
        self._containers += 1
        if self._containers > CONTAINERS_MAX:
            raise CodecError(f"a message holds more than {CONTAINERS_MAX} arrays and maps")

    def value(self, raw: Any, level: int) -> Any:
        """Return the value of anything; `level` containers are around it. One call per container, none per scalar."""
        kind = type(raw)
        if kind is list:
            if level >= self._nesting_depth:
                raise self._too_deep()
            if _KEYS.issuperset(map(type, raw)):
                return raw
            level += 1
            return [part if type(part) in _KEYS else self.value(part, level) for part in raw]
        if kind is dict:
            if level >= self._nesting_depth:
                raise self._too_deep()
            if not _KEYS.issuperset(map(type, raw)):
                raise CodecError("a map has keys that are no scalars")
            if _KEYS.issuperset(map(type, raw.values())):
                return raw
            level += 1
            return {key: part if type(part) in _KEYS else self.value(part, level) for key, part in raw.items()}
        return raw if kind in _KEYS else self._extension(raw, level)

    def _extension(self, raw: Any, level: int) -> Any:
        """Return what an extension stands for: one level, together with the container that is its content."""
        code = raw.code if type(raw) is msgspec.msgpack.Ext else TIMESTAMP
        if not self._ext:
            raise CodecError(f"extension type {code} is not allowed here")
        if code == TIMESTAMP:
            return raw
        if code == BIG_INTEGER:
            return _bounded_integer(raw.data)
        if level >= self._nesting_depth:
            raise self._too_deep()
        content = self._unpacked(raw.data)
        if code == MAP:
            pairs = [(self.value(key, level + 1), self.value(part, level + 1)) for key, part in content]
            _check_hashes([key for key, _ in pairs])
            return _unique(pairs)
        if code == OBJECT:
            name, fields = content
            kind = _known_type(name)
            return _constructed(kind, self.value(fields, level if type(fields) is dict else level + 1))
        if type(content) not in {list, dict}:  # above all no extension: each layer is a level
            raise CodecError(f"extension type {code} holds an array or a map, not {summary(content)}")
        content = self.value(content, level)
        if code in {SET, FROZENSET}:
            _check_hashes(content)
        return _bounded(_simple(code, content))

    def _too_deep(self) -> CodecError:
        return CodecError(f"values nest deeper than {self._nesting_depth} levels")


def _bounded_integer(data: bytes) -> int:
    if len(data) > INTEGER_BITS_MAX // 4:
        raise CodecError(f"an integer of {len(data)} hexadecimal digits is longer than {INTEGER_BITS_MAX} bits")
    return int(data, 16)


def _bounded(value: Any) -> Any:
    """Refuse a Decimal that is small on the wire and fills the memory as an integer."""
    if type(value) is decimal.Decimal and value.is_finite():
        digits, exponent = len(value.as_tuple().digits), abs(value.adjusted())
        if digits > DIGITS_MAX or exponent > EXPONENT_MAX:
            raise CodecError(
                f"a Decimal has at most {DIGITS_MAX} digits and an exponent of at most {EXPONENT_MAX}, "
                f"not {digits} and {exponent}"
            )
    return value


def _check_hashes(keys: list[Any]) -> None:
    """Refuse keys that someone has chosen for their hash: Python's hash of numbers and of tuples is no secret."""
    same = len(keys) - len(set(map(hash, keys)))
    if same > SAME_HASH_MAX:
        raise CodecError(f"{same} keys have the same hash as others (at most {SAME_HASH_MAX} may)")
