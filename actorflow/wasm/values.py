"""Values on their way into a guest and out of it: plain MessagePack, with limits on what a guest gives.

In:  what MessagePack knows, goes as it is; tuples, sets and ranges go as arrays; dataclasses and structs as maps by the
names of their fields; enums, dates, UUIDs and decimals as text or numbers.   Out: plain values; no extension types.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from actorflow import codec
from actorflow.errors import CodecError, ContractError, summary

NESTING_MAX = 64
BYTES_MAX = 16 << 20
"""Of outcomes, or of a value for a cell."""
KEY_BYTES_MAX = 64 << 10
CONTAINERS_MAX = 100_000
"""Arrays in one batch of outcomes that are decoded at once: an empty one takes a byte there, and 56 here."""
_MAPS = bytes([*range(0x80, 0x90), 0xDE, 0xDF])
_EXTENSIONS = bytes([*range(0xC7, 0xCA), *range(0xD4, 0xD9)])
_TIMESTAMP = b"\xff"
"""The code of the one extension that the decoder knows by itself."""

_encode = msgspec.msgpack.Encoder(enc_hook=codec.plain).encode


def _no_extension(code: int, data: memoryview) -> Any:
    raise ContractError(f"extension {code} is not plain")


_decode = msgspec.msgpack.Decoder(ext_hook=_no_extension).decode


def to_guest(value: Any) -> bytes:
    """Encode a value. Raises: CodecError for one that has no plain form, such as an integer beyond 64 bits."""
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(f"{summary(value)} cannot be given to a WASM function: {error}") from None


def from_guest(data: bytes) -> Any:
    """Decode a value. Raises: ContractError."""
    if len(data) > BYTES_MAX:
        raise ContractError(f"a WASM function gave {len(data):,} bytes at once, and {BYTES_MAX:,} are allowed")
    if _is_plainest(data) and codec.containers_at_most(data) <= CONTAINERS_MAX:
        # no map, so no keys to be looked at: of most batches all that is left is how deep they nest
        with contextlib.suppress(Exception):  # whoever looks closely says it better
            value = _decode(data)
            if codec.containers_at_most(data) == _arrays_on_top(value) or _is_within(value, NESTING_MAX):
                return value
    try:
        return codec.decode_untrusted(data, nesting_depth=NESTING_MAX, ext=False)
    except CodecError as error:
        if not data:
            said = "a WASM function gave no bytes: outcomes are due, as pointer << 32 | length"
            raise ContractError(said) from None
        raise ContractError(f"{len(data):,} bytes of a WASM function are no plain MessagePack: {error}") from None


def _is_plainest(data: bytes) -> bool:
    """Return whether there is neither a map nor a point in time in some bytes, nor what looks like one."""
    if len(data.translate(None, _MAPS)) != len(data):
        return False
    return _TIMESTAMP not in data or len(data.translate(None, _EXTENSIONS)) == len(data)


def _arrays_on_top(value: Any) -> int:
    """Return how many arrays there are down to the third level, where those of most outcomes end."""
    if type(value) is not list:
        return 0
    outcomes = [each for each in value if type(each) is list]
    return 1 + len(outcomes) + sum(type(part) is list for each in outcomes for part in each)


def _is_within(value: Any, most: int) -> bool:
    """Return whether arrays nest no deeper than allowed; a level at a time, each array in one go."""
    level = [value] if type(value) is list else []
    for _ in range(most):
        if not level:
            return True
        level = [part for each in level if list in set(map(type, each)) for part in each if type(part) is list]
    return not level


def key_from_guest(data: bytes) -> Any:
    """Decode a key: arrays are tuples. Raises: ContractError."""
    if len(data) > KEY_BYTES_MAX:
        raise ContractError(f"a key has {len(data):,} bytes, and {KEY_BYTES_MAX:,} are allowed")
    return hashable(from_guest(data))


def hashable(value: Any) -> Any:
    """Return a plain value as a key. Raises: ContractError for a map."""
    if type(value) is list:
        return tuple(map(hashable, value))
    if type(value) is dict:
        raise ContractError(f"{summary(value)} is no key: a key is a number, text, bytes, or an array of them")
    return value
