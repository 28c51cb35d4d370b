"""Values on their way into a guest and out of it: plain MessagePack, with limits on what a guest gives.

In:  what MessagePack knows, goes as it is; tuples, sets and ranges go as arrays; dataclasses and structs as maps by the
names of their fields; enums, dates, UUIDs and decimals as text or numbers.   Out: plain values; no extension types.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actorflow import codec
from actorflow.errors import CodecError, ContractError, summary

NESTING_MAX = 64

_encode = msgspec.msgpack.Encoder(enc_hook=codec.plain).encode


def to_guest(value: Any) -> bytes:
    """Encode a value. Raises: CodecError for one that has no plain form, such as an integer beyond 64 bits."""
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(f"{summary(value)} cannot be given to a WASM function: {error}") from None


def from_guest(data: bytes) -> Any:
    """Decode a value. Raises: ContractError."""
    try:
        return codec.decode_untrusted(data, nesting_depth=NESTING_MAX, ext=False)
    except CodecError as error:
        raise ContractError(f"{len(data):,} bytes of a WASM function are no plain MessagePack: {error}") from None


def key_from_guest(data: bytes) -> Any:
    """Decode a key: arrays are tuples. Raises: ContractError."""
    return hashable(from_guest(data))


def hashable(value: Any) -> Any:
    """Return a plain value as a key. Raises: ContractError for a map."""
    if type(value) is list:
        return tuple(map(hashable, value))
    if type(value) is dict:
        raise ContractError(f"{summary(value)} is no key: a key is a number, text, bytes, or an array of them")
    return value
