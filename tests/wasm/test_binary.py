"""The binary format: numbers, instructions, and the custom sections of anybody's module."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorflow.wasm.binary import MAGIC, Module, assemble, custom_section, signed, unsigned


def with_sections(*customs: tuple[str, bytes]) -> bytes:
    module = Module()
    module.add_function(["i64"], "i64", ["i64", "i64", "f64"], assemble("local.get 0"))
    module.customs += customs
    return module.encoded()


@pytest.mark.parametrize(("value", "data"), [(0, "00"), (127, "7f"), (128, "80 01"), (624485, "e5 8e 26")])
def test_an_unsigned_number_is_written_in_groups_of_seven_bits(value: int, data: str) -> None:
    assert unsigned(value) == bytes.fromhex(data)


@pytest.mark.parametrize(("value", "data"), [
    (0, "00"), (63, "3f"), (64, "c0 00"), (-1, "7f"), (-64, "40"), (-65, "bf 7f"), (-123456, "c0 bb 78"),
    (-(1 << 63), "80 80 80 80 80 80 80 80 80 7f"),
])  # fmt: skip
def test_a_signed_number_ends_with_its_sign(value: int, data: str) -> None:
    assert signed(value) == bytes.fromhex(data)


@pytest.mark.parametrize(("text", "data"), [
    ("local.get 0 i64.const -1 i64.add", "20 00 42 7f 7c"), ("block void br 0 end", "02 40 0c 00 0b"),
    ("f64.const 1.0 f64.nearest", "44 00 00 00 00 00 00 f0 3f 9e"), ("f64.const nan", "44 00 00 00 00 00 00 f8 7f"),
    ("f64.const -0.0 f64.copysign", "44 00 00 00 00 00 00 00 80 a6"), ("i64.rotr i64.load8_u", "8a 31 00 00"),
    ("if f64 else end unreachable", "04 7c 05 0b 00"), ("i32.wrap_i64 i64.trunc_f64_s f64.reinterpret_i64", "a7 b0 bf"),
])  # fmt: skip
def test_instructions_are_those_of_the_specification(text: str, data: str) -> None:
    assert assemble(text) == bytes.fromhex(data)


def test_an_instruction_that_is_not_known_is_an_error() -> None:
    with pytest.raises(KeyError):
        assemble("i64.guess")


def test_a_custom_section_is_found_by_its_name() -> None:
    module = with_sections(("one", b"1"), ("two", b""), ("one", b"again"))

    assert [custom_section(module, name) for name in ("one", "two", "three", "")] == [b"1", b"", None, None]


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for module in (data, MAGIC + data, MAGIC + b"\x00" + data):
        try:
            found = custom_section(module, "name")
        except ValueError:
            continue
        assert found is None or isinstance(found, bytes)


@given(st.data())
def test_a_module_that_is_cut_or_changed_is_read_or_refused(data: st.DataObject) -> None:
    module = bytearray(with_sections(("name", b"content")))
    at = data.draw(st.integers(0, len(module) - 1))
    module[at] = data.draw(st.integers(0, 255))
    cut = bytes(module[: data.draw(st.integers(0, len(module)))])

    for each in (bytes(module), cut):
        try:
            found = custom_section(each, "name")
        except ValueError:
            continue
        assert found is None or isinstance(found, bytes)


@pytest.mark.parametrize("data", [
    b"", b"\x00asm", b"\x00asm\x02\x00\x00\x00", MAGIC + b"\x00", MAGIC + b"\x00\x05ab",
    MAGIC + b"\x01\xff\xff\xff\xff\x7f",
    MAGIC + b"\x00\x01\x05", MAGIC + b"\x00\x80\x80\x80\x80\x80\x00", MAGIC + b"\x00\x00",
])  # fmt: skip
def test_malformed_bytes_are_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"byte|module"):
        custom_section(data, "name")
