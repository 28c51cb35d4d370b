"""The codec: what goes in comes out, and hostile bytes are a CodecError and nothing else."""

import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import struct
import time
import uuid
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actorflow import codec
from actorflow.address import Address
from actorflow.codec import decode, decode_untrusted, encode, handed_over
from actorflow.errors import ActorflowError, CodecError, MailboxFullError


class Colour(enum.Enum):
    RED = 1
    PAIR = (1, "b")


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Plain:
    left: Any
    right: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


@dataclasses.dataclass(frozen=True)
class Checked:
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("an amount is not negative")


class Row(msgspec.Struct):
    key: Any
    tags: Any = None


class FrozenRow(msgspec.Struct, frozen=True):
    key: Any


class Unregistered:
    pass


for each in (Colour, Level, Word, Rights, Plain, Frozen, Checked, Row, FrozenRow):
    codec.register(each)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INT64 = st.integers(-(1 << 63), (1 << 64) - 1)
PLAIN_SCALARS = st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | TEXT | st.binary(max_size=20)
HASHABLE = st.recursive(
    st.one_of(
        PLAIN_SCALARS.filter(lambda value: value is not True and value is not False),
        st.integers(),
        st.datetimes(timezones=st.sampled_from([None, datetime.UTC])).map(lambda each: each.replace(fold=0)),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.decimals(allow_nan=False),
        st.fractions(),
        st.uuids(),
        st.complex_numbers(allow_nan=False),
        st.builds(range, st.integers(-99, 99), st.integers(-99, 99), st.integers(1, 9)),
        st.sampled_from([*Colour, *Level, *Word, *Rights, Rights.READ | Rights.WRITE]),
        st.builds(Address, TEXT, st.integers(0, 1 << 60), TEXT),
    ),
    lambda part: st.one_of(
        st.lists(part, max_size=3).map(tuple),
        st.frozensets(part, max_size=3),
        st.builds(Frozen, part),
        st.builds(FrozenRow, part),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE,
    lambda part: st.one_of(
        st.lists(part, max_size=4),
        st.lists(part, max_size=3).map(tuple),
        st.dictionaries(HASHABLE, part, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.builds(Plain, part, part),
        st.builds(Row, part, part),
    ),
    max_leaves=12,
)
PLAIN = st.recursive(
    PLAIN_SCALARS, lambda part: st.lists(part, max_size=20) | st.dictionaries(TEXT | INT64, part, max_size=20)
)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same type all the way down, and in the same order (NaN equals NaN)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, (Plain, Frozen)):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, (Row, FrozenRow)):
        return all(same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    if isinstance(one, datetime.datetime):
        return bool(one == other) and one.utcoffset() == other.utcoffset()
    return bool(one == other)


def extension(code: int, content: Any) -> bytes:
    """The bytes of an extension with any content, as a hostile peer would send it."""
    body = content if isinstance(content, bytes) else msgpack.packb(content)
    return b"\xc9" + struct.pack(">Ib", len(body), code) + body


def decoders() -> list[Any]:
    return [decode, lambda data: decode_untrusted(data, nesting_depth=64)]


# Round trips


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_every_value_arrives_as_what_it_was(value: Any) -> None:
    data = encode(value)

    assert same(decode(data), value)
    assert same(decode_untrusted(data, nesting_depth=200), value)


@given(PLAIN)
def test_plain_values_are_the_bytes_of_any_messagepack_library(value: Any) -> None:
    data = encode(value)

    assert data == msgpack.packb(value)
    assert data == msgspec.msgpack.encode(value)
    assert same(decode(data), value)
    assert same(decode_untrusted(data, nesting_depth=200), value)


@given(st.integers(-(1 << 200), 1 << 200))
def test_integers_of_any_size_arrive(value: int) -> None:
    assert decode(encode([value])) == [value]
    assert decode(encode({"k": (value,)})) == {"k": (value,)}


@pytest.mark.parametrize("edge", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63), -(1 << 63) - 1])
def test_integers_at_the_edge_of_64_bits_arrive_alone_and_among_others(edge: int) -> None:
    for value in (edge, [1, edge], {"k": edge}, (edge, 2), {edge}, Frozen(edge)):
        assert same(handed_over(value), value)


@pytest.mark.parametrize(
    "value",
    [math.nan, -0.0, math.inf, [math.nan], {"k": math.nan}, (math.nan, -0.0), Frozen(math.nan), Row(-math.inf)],
)
def test_odd_floats_arrive(value: Any) -> None:
    assert same(handed_over(value), value)


def test_decimals_that_are_no_numbers_arrive() -> None:
    assert str(handed_over(decimal.Decimal("sNaN"))) == "sNaN"
    assert str(handed_over(decimal.Decimal("-0.00"))) == "-0.00"


def test_maps_with_odd_keys_keep_them_and_their_order() -> None:
    value = {(1, (2,)): 1, Colour.RED: 2, Frozen("a"): 3, frozenset({1}): {(1,): {2: 3}}, None: 4, 1.5: 5, b"b": 6}

    assert same(handed_over(value), value)


@pytest.mark.parametrize("text", [bytearray(b"abc"), memoryview(b"abc")])
def test_views_of_bytes_arrive_as_bytes(text: Any) -> None:
    assert handed_over([text]) == [b"abc"]


def test_a_frozen_dataclass_arrives_without_running_its_checks_again() -> None:
    made = object.__new__(Checked)
    object.__setattr__(made, "amount", -1)

    assert handed_over(made).amount == -1


def test_an_error_arrives_as_an_error() -> None:
    received = handed_over([MailboxFullError("full", stream="s")])[0]

    assert type(received) is MailboxFullError
    assert (received.message, received.stream) == ("full", "s")


@pytest.mark.parametrize("value", [{1 << 64: "a"}, {"k": {-(1 << 70): 1}}, [range(1 << 64)]])
def test_big_integers_arrive_as_keys_and_in_ranges(value: Any) -> None:
    assert handed_over(value) == value


def test_the_second_hour_of_a_clock_change_arrives_as_the_second() -> None:
    assert handed_over(datetime.datetime(2026, 10, 25, 2, 30, fold=1)).fold == 1


# What cannot travel


@pytest.mark.parametrize("value", [object(), Unregistered(), open, lambda: 1, (x for x in ()), "\ud800", type])
def test_what_cannot_travel_is_refused_by_name_wherever_it_stands(value: Any) -> None:
    for placed in (value, [value], {"k": value}, (value,), Frozen(value), Row(value)):
        with pytest.raises(CodecError):
            encode(placed)


def test_what_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    knot: dict[str, Any] = {}
    knot["k"] = (knot,)

    for value in (circle, knot):
        with pytest.raises(CodecError):
            encode(value)


def test_a_type_that_is_not_registered_here_is_refused_and_never_imported() -> None:
    for name in ("test_codec:Unregistered", "os:system", "builtins:eval", "antigravity:fly", ""):
        for read in decoders():
            with pytest.raises(CodecError, match="not known here"):
                read(extension(codec.OBJECT, [name, {}]))


@pytest.mark.parametrize("fields", [{}, {"left": 1}, {"left": 1, "right": 2, "more": 3}, {"__class__": 1}, [1, 2], 5])
def test_a_dataclass_with_other_fields_is_refused(fields: Any) -> None:
    for read in decoders():
        with pytest.raises(CodecError):
            read(extension(codec.OBJECT, [codec.type_name(Plain), fields]))


@pytest.mark.parametrize("kind", [Colour, Row])
@pytest.mark.parametrize("content", [{"nope": 1}, 77, [1], None])
def test_an_enum_or_struct_with_other_contents_is_refused(kind: type, content: Any) -> None:
    for read in decoders():
        with pytest.raises(CodecError):
            read(extension(codec.OBJECT, [codec.type_name(kind), content]))


# Hostile bytes

SMALL = st.recursive(PLAIN_SCALARS, lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXT, part, max_size=2))
HOSTILE = st.one_of(
    st.binary(max_size=60),
    st.builds(extension, st.integers(-128, 127), st.binary(max_size=20)),
    st.builds(extension, st.sampled_from([2, 3, 4, 5, 8]), SMALL),
)


@settings(max_examples=300, deadline=None)
@given(HOSTILE)
def test_arbitrary_bytes_are_a_value_or_a_codec_error(data: bytes) -> None:
    for read in decoders():
        with contextlib.suppress(CodecError):
            read(data)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.data())
def test_bytes_that_are_cut_short_are_a_codec_error(value: Any, data: st.DataObject) -> None:
    whole = encode(value)
    length = data.draw(st.integers(0, len(whole) - 1))

    for read in decoders():
        with pytest.raises(CodecError):
            read(whole[:length])


@pytest.mark.parametrize(
    "data",
    [
        extension(codec.SCALAR, []),
        extension(codec.SCALAR, {}),
        extension(codec.SCALAR, ["Decimal", "x"]),
        extension(codec.SCALAR, ["Fraction", "1/0"]),
        extension(codec.SCALAR, ["UUID", 5]),
        extension(codec.SCALAR, ["timedelta", [10**15]]),
        extension(codec.ERROR, [1]),
        extension(codec.ERROR, 5),
        extension(codec.ADDRESS, ["a", math.inf, "b"]),
    ],
    ids=lambda data: repr(data[6:]),
)
def test_an_extension_with_wrong_contents_is_a_codec_error(data: bytes) -> None:
    for read in decoders():
        with pytest.raises(CodecError):
            read(data)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 4, 6, 7, 8, 9]), SMALL | st.tuples(st.sampled_from(sorted(codec._SCALAR_NAMES)), SMALL)
)
def test_extensions_with_any_contents_raise_nothing_unexpected(code: int, content: Any) -> None:
    for read in decoders():
        with contextlib.suppress(CodecError):
            read(extension(code, content))


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01", b"\xc7\xff\x02", b"\xdd\x00\x00\x00\x01"])
def test_a_nesting_bomb_is_a_codec_error(opening: bytes, depth: int) -> None:
    begun_s = time.process_time()

    with pytest.raises(CodecError):
        decode_untrusted(opening * depth, nesting_depth=64)
    with pytest.raises(CodecError):
        decode(opening * depth)

    assert time.process_time() - begun_s < 2


def test_a_nesting_bomb_of_extensions_is_a_codec_error() -> None:
    data = b"\x01"
    for _ in range(3000):
        data = extension(codec.TUPLE, b"\x91" + data)

    for read in decoders():
        with pytest.raises(CodecError):
            read(data)


@pytest.mark.parametrize("header", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"])
def test_a_container_that_claims_more_than_the_bytes_hold_is_refused_at_once(header: bytes) -> None:
    for data in (header, header * 300, extension(codec.TUPLE, header * 300)):
        begun_s = time.process_time()
        with pytest.raises(CodecError):
            decode_untrusted(data, nesting_depth=64)
        assert time.process_time() - begun_s < 1


def test_a_fraction_bomb_ends_soon() -> None:
    data = extension(codec.SCALAR, ["Fraction", "1e100000000"])
    begun_s = time.process_time()

    for read in decoders():
        with pytest.raises(CodecError):
            read(data)

    assert time.process_time() - begun_s < 0.5


def same_hash(count: int) -> list[int]:
    return [((1 << 61) - 1) * factor for factor in range(16, 16 + count)]


@pytest.mark.parametrize("kind", [codec.SET, codec.FROZENSET, codec.MAP])
def test_many_keys_that_hash_alike_are_refused_before_they_cost_their_square(kind: int) -> None:
    keys = [codec._tagged(each) for each in same_hash(20_000)]
    content = msgspec.msgpack.encode([[key, 1] for key in keys] if kind == codec.MAP else keys)
    begun_s = time.process_time()

    with pytest.raises(CodecError, match="same hash"):
        decode_untrusted(extension(kind, content), nesting_depth=64)

    assert time.process_time() - begun_s < 1


def test_a_few_keys_that_hash_alike_and_many_that_do_not_arrive() -> None:
    value = {*same_hash(60), *range(1 << 64, (1 << 64) + 3000), *map(str, range(3000))}

    assert decode_untrusted(encode([value, dict.fromkeys(value)]), nesting_depth=9) == [value, dict.fromkeys(value)]


@pytest.mark.parametrize(
    "data",
    [
        extension(codec.BIG_INTEGER, b"0x" + b"f" * 3500),
        extension(codec.SCALAR, ["Decimal", "9" * 4400]),
        extension(codec.SCALAR, ["Decimal", "1e999999"]),
        extension(codec.SCALAR, ["Decimal", "-1e-999999"]),
        extension(codec.SCALAR, ["Fraction", ["1e1000000", None]]),
        extension(codec.SCALAR, ["Fraction", ["1e1000000"]]),
    ],
    ids=["integer", "digits", "exponent", "negative-exponent", "fraction-of-text", "fraction-of-one-text"],
)
def test_a_number_that_fills_the_memory_is_refused_from_outside(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_untrusted(data, nesting_depth=9)


def test_the_largest_numbers_that_python_prints_arrive_from_outside() -> None:
    value = [
        1 << 13_900,
        -(1 << 13_900),
        decimal.Decimal("9" * 4300),
        decimal.Decimal("1e6176"),
        decimal.Decimal("NaN"),
    ]

    assert str(decode_untrusted(encode(value), nesting_depth=9)) == str(value)


# Limits from outside


WRAPPERS: dict[str, Any] = {
    "list": lambda value: [value],
    "dict": lambda value: {"k": value},
    "tuple": lambda value: (value,),
    "frozenset": lambda value: frozenset([value]),
    "dataclass": Frozen,
    "struct": FrozenRow,
}


def nested(kind: str, depth: int) -> Any:
    """A value in so many containers of one kind; "key": in tuples that are the key of a map."""
    value: Any = 1
    for _ in range(depth):
        value = WRAPPERS["tuple" if kind == "key" else kind](value)
    return {value: 1} if kind == "key" else value


@pytest.mark.parametrize("kind", ["list", "dict", "tuple"])
@pytest.mark.parametrize("depth", [1, 5, 40])
def test_values_may_nest_as_deep_as_allowed_and_no_deeper(kind: str, depth: int) -> None:
    data = encode(nested(kind, depth))

    assert same(decode_untrusted(data, nesting_depth=depth), nested(kind, depth))
    with pytest.raises(CodecError, match="nest deeper"):
        decode_untrusted(data, nesting_depth=depth - 1)


@pytest.mark.parametrize("kind", ["frozenset", "dataclass", "struct", "key"])
def test_the_limit_on_nesting_holds_for_every_container(kind: str) -> None:
    with pytest.raises(CodecError):
        decode_untrusted(encode(nested(kind, 30)), nesting_depth=5)


DUPLICATES = [b"\x82\x01\x01\x01\x02", b"\x82\xa1a\x01\xa1a\x02", b"\x91\x82\x01\x01\x01\x02", b"\x82\x01\x01\xc3\x02"]


@pytest.mark.parametrize("data", DUPLICATES)
def test_a_map_that_names_a_key_twice_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="twice"):
        decode_untrusted(data, nesting_depth=9)


@pytest.mark.parametrize(
    "data",
    [
        extension(codec.TUPLE, b"\x91\x82\x01\x01\x01\x02"),
        extension(codec.MAP, [[1, 1], [1, 2]]),
        extension(codec.OBJECT, b"\x92" + msgpack.packb(codec.type_name(Frozen)) + b"\x82" + b"\xa5value\x01" * 2),
    ],
)
def test_a_map_inside_an_extension_that_names_a_key_twice_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode_untrusted(data, nesting_depth=9)


@given(st.integers(0, 127), st.binary(max_size=8))
def test_where_extensions_are_not_allowed_each_is_refused(code: int, content: bytes) -> None:
    with pytest.raises(CodecError, match="not allowed"):
        decode_untrusted(extension(code, content), nesting_depth=9, ext=False)


def test_a_timestamp_from_outside_is_what_decode_makes_of_it_or_refused() -> None:
    data = b"\xd6\xff\x00\x00\x00\x01"

    assert decode_untrusted(data, nesting_depth=9) == decode(data)
    with pytest.raises(CodecError):
        decode_untrusted(data, nesting_depth=9, ext=False)


@pytest.mark.parametrize("data", [b"", b"\x01\x01", b"\xc1", b"\xa1\xff"])
def test_bytes_that_are_no_messagepack_are_a_codec_error(data: bytes) -> None:
    for read in decoders():
        with pytest.raises(CodecError):
            read(data)


def test_a_dataclass_from_outside_has_passed_its_own_checks() -> None:
    with pytest.raises((CodecError, ActorflowError)):
        decode_untrusted(extension(codec.OBJECT, [codec.type_name(Checked), {"amount": -1}]), nesting_depth=9)


@dataclasses.dataclass
class Derived:
    side: int
    area: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.area = self.side * self.side


codec.register(Derived)


def test_what_a_dataclass_derives_it_derives_itself_from_what_comes_from_outside() -> None:
    lie = extension(codec.OBJECT, [codec.type_name(Derived), {"side": 2, "area": 999}])

    assert decode_untrusted(lie, nesting_depth=9) == Derived(2)


def test_a_registered_class_of_another_kind_is_never_called() -> None:
    called: list[Any] = []

    class Service:
        def __init__(self, **fields: Any) -> None:
            called.append(fields)

    codec.register(Service)

    for read in decoders():
        with pytest.raises(CodecError):
            read(extension(codec.OBJECT, [codec.type_name(Service), {"a": 1}]))
    assert called == []


@pytest.mark.parametrize("name", [codec.type_name(Colour), codec.type_name(Frozen), "nowhere"])
@pytest.mark.parametrize("code", [codec.TUPLE, codec.SET, codec.MAP, codec.OBJECT, codec.SCALAR, codec.ERROR])
def test_extensions_directly_in_one_another_are_refused_at_the_limit(code: int, name: str) -> None:
    data = b"\x01"
    for _ in range(1000):
        data = extension(code, b"\x92" + msgpack.packb(name) + data if code == codec.OBJECT else data)
    begun_s = time.process_time()

    with pytest.raises(CodecError):
        decode_untrusted(data, nesting_depth=64)

    assert time.process_time() - begun_s < 0.5


def test_a_list_as_a_key_from_outside_is_refused() -> None:
    with pytest.raises(CodecError):
        decode_untrusted(b"\x81\x90\x01", nesting_depth=9)


# Handing over and copying


@given(VALUES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_copy_is_equal_and_shares_nothing_that_can_change(value: Any) -> None:
    copied = codec.copy_if_mutable([value, [value]])

    assert same(copied, [value, [value]])
    assert copied[1] is not value


@pytest.mark.parametrize("value", [1, "a", b"b", None, (1, "a"), 1.5, Address("h", 1, "n"), range(3)])
def test_what_nobody_can_change_is_not_copied(value: Any) -> None:
    assert codec.copy_if_mutable(value) is value


@pytest.mark.parametrize("value", [([1],), [1], {"k": 1}, {1}])
def test_what_can_change_is_copied(value: Any) -> None:
    copied = codec.copy_if_mutable(value)

    assert copied == value
    assert copied is not value


@pytest.mark.parametrize(
    ("value", "expected"),
    [({1}, [1]), (frozenset({1}), [1]), (range(3), [0, 1, 2]), (Plain(1, 2), {"left": 1, "right": 2}),
     (Row(1), {"key": 1, "tags": None}), (Colour.RED, 1), (fractions.Fraction(1, 2), None)],
)  # fmt: skip
def test_plain_values_stand_in_for_what_json_does_not_know(value: Any, expected: Any) -> None:
    if expected is None:
        with pytest.raises(TypeError):
            codec.plain(value)
    else:
        assert codec.plain(value) == expected


def test_a_uuid_survives_as_a_key_of_a_map() -> None:
    key = uuid.uuid4()

    assert handed_over({key: {key}}) == {key: {key}}
