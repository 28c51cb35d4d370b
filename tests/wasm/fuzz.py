"""Throw bytes at the host: `python tests/wasm/fuzz.py --tries 100000 --seed 1`.

Each try is of one kind: random bytes as a module; a committed module or component with bits flipped, cut, or spliced
with another; a sound module that gives random bytes, or random places, and asks host functions about such. Whatever
comes of it must be a value or a typed error, soon, in bounded memory.

A child does the work, so that a crash of the process is seen: it writes down each try before it makes it. The parent
reports what it died of, and goes on behind that try.
"""

from __future__ import annotations

import argparse
import collections
import logging
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import msgspec  # noqa: E402 - behind the path, since this file is run as it is, too
import wasmtime  # noqa: E402

from actorflow import ActorflowError  # noqa: E402
from actorflow.wasm import wasm  # noqa: E402
from actorflow.wasm.function import program_of  # noqa: E402
from actorflow.wasm.lending import Guests, Lease  # noqa: E402
from actorflow.wasm.outcomes import value_of  # noqa: E402

BUILT = ROOT / "examples" / "wasm" / "built"
SANDBOX: dict[str, Any] = {"batch_s": 0.02, "slice_s": 0.02, "memory_bytes": 8 << 20}
TRY_S_MAX = 5.0
"""A try that takes longer hangs: compiling a mutated module takes milliseconds, running it a slice."""
MEMORY_BYTES_MAX = 2 << 30
"""Of the whole process, in the end."""
BATCHES = [
    [["echo", 1]],
    [["echo", {"a": [None, 1.5, "x" * 40]}], ["several", 20], ["nothing", None]],
    [["get", ["stock", "tea"]], ["sum", ["stock", "tea", 4]], ["host_log", "line"]],
    [["collatz", [27, 0]], ["trips", 3], ["request_id", None], ["clock", None]],
    [],
]


class Anything:
    """An activation that has whatever is asked for."""

    changed = False

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def check_declared(self, cell: str) -> None:
        pass

    def get(self, cell: str, key: Any) -> tuple[Any, ...]:
        return self._chance.choice([(), (7,), ("x" * self._chance.choice([1, 100, 10_000]),)])

    def change(self, verb: str, cell: str, key: Any, value: Any) -> None:
        hash(key)

    def clock_s(self) -> float:
        return 1e9

    def deadline_s(self) -> float:
        return 1.0

    def request_id(self) -> str:
        return "r" * self._chance.choice([1, 40, 300])

    def round(self) -> int:
        return 2

    def log(self, line: str) -> None:
        assert isinstance(line, str)


def committed() -> list[bytes]:
    return [path.read_bytes() for path in sorted(BUILT.glob("*.wasm")) if path.stat().st_size < 300_000]


# -- what is tried


def as_module(chance: random.Random, sound: list[bytes]) -> bytes:
    """Random bytes that claim to be a module, or not even that."""
    head = chance.choice([b"", b"\0asm", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"])
    if chance.random() < 0.5:
        return head + chance.randbytes(chance.randrange(200))
    sections = b""
    for number in sorted(chance.sample(range(14), chance.randrange(6))):
        body = chance.randbytes(chance.randrange(40))
        sections += bytes((number, len(body))) + body
    return head + sections


def mutated(chance: random.Random, sound: list[bytes]) -> bytes:
    """A committed module with something changed."""
    code = bytearray(chance.choice(sound))
    for _ in range(chance.choice([1, 1, 1, 1, 1, 2, 5, 20])):
        at = chance.randrange(8, len(code))
        match chance.randrange(12):
            case 0 | 1 | 2 | 3 | 4 | 5 | 6:
                code[at] ^= 1 << chance.randrange(8)
            case 7:
                code[at] = chance.randrange(256)
            case 8:
                del code[at : at + chance.choice([1, 2, 8, 100])]
            case 9:
                code[at:at] = chance.randbytes(chance.choice([1, 2, 8]))
            case 10:
                other = chance.choice(sound)
                start = chance.randrange(len(other))
                piece = other[start : start + chance.choice([4, 16, 200])]
                code[at : at + len(piece)] = piece
            case _:
                del code[at:]
        if len(code) < 10:
            break
    return bytes(code)


def messages(chance: random.Random) -> bytes:
    """Bytes that are MessagePack, or nearly."""

    def value(depth: int) -> Any:
        match chance.randrange(9 if depth < 5 else 6):
            case 0:
                return None
            case 1:
                return chance.randrange(-(1 << 63), 1 << 64)
            case 2:
                return chance.random()
            case 3:
                return "ü" * chance.randrange(40)
            case 4:
                return chance.randbytes(chance.randrange(40))
            case 5:
                return chance.randrange(10)
            case 6 | 7:
                return [value(depth + 1) for _ in range(chance.randrange(6))]
            case _:
                return {chance.randrange(9): value(depth + 1) for _ in range(chance.randrange(4))}

    data = bytearray(msgspec.msgpack.encode([value(0) for _ in range(chance.choice([0, 1, 1, 1, 2]))]))
    for _ in range(chance.choice([0, 0, 1, 3])):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data) if chance.random() < 0.8 else chance.randbytes(chance.randrange(60))


class Giver:
    """A sound module whose function gives, and asks for, what is written into its memory before."""

    CODE = wasmtime.wat2wasm("""
      (module
        (import "actorflow" "get" (func $get (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "actorflow" "put" (func $put (param i32 i32 i32 i32 i32 i32)))
        (import "actorflow" "log" (func $log (param i32 i32)))
        (memory (export "memory") 2)
        (func (export "actorflow_alloc") (param i32) (result i32) (i32.load (i32.const 0)))
        (func (export "process") (param i32 i32) (result i64)
          (if (i32.eq (i32.load (i32.const 40)) (i32.const 1)) (then (drop (call $get
            (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.load (i32.const 24)) (i32.load (i32.const 28))
            (i32.load (i32.const 32)) (i32.load (i32.const 36))))))
          (if (i32.eq (i32.load (i32.const 40)) (i32.const 2)) (then (call $put
            (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.load (i32.const 24)) (i32.load (i32.const 28))
            (i32.load (i32.const 32)) (i32.load (i32.const 36)))))
          (if (i32.eq (i32.load (i32.const 40)) (i32.const 3)) (then (call $log
            (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
          (i64.load (i32.const 8))))
    """)

    def __init__(self) -> None:
        self.function = wasm(self.CODE, **SANDBOX)
        self.guests = Guests(self.function)

    def attempt(self, chance: random.Random) -> Any:
        lease = Lease(self.guests, Anything(chance), SANDBOX["batch_s"])
        guest = lease.guest()
        told = messages(chance)

        def place() -> int:
            wild = (0, 1, 131_060, 131_072, 0x7FFFFFFF, 0xFFFFFFF0, chance.getrandbits(32))
            return 60_000 if chance.random() < 0.8 else chance.choice(wild)

        def length() -> int:
            wild = (0, 1, 8, 131_072, 0x7FFFFFFF, 0xFFFFFFFF, chance.getrandbits(32))
            return len(told) if chance.random() < 0.8 else chance.choice(wild)

        alloc = chance.choice([100_000, 100_000, 100_000, place()])
        head = struct.pack(
            "<IIIIIIIIIII", alloc, 0, length(), place(), *(f() for f in (place, length) * 3), chance.randrange(4)
        )
        guest.write(0, head)
        guest.write(60_000, told)
        try:
            (outcome,) = self.function.caller.many(lease, [1])
        finally:
            lease.end()
        return value_of(outcome, "fuzz")


def run_module(code: bytes, chance: random.Random) -> None:
    """Declare what functions a module has, and call them."""
    grants = chance.choice([(), ("stdout", "clock", "wasi")])
    try:
        functions = program_of(code, where="fuzz").functions
    except ActorflowError:
        functions = ()
    for export in functions[:6] or ("process",):
        function = wasm(code, export, grants=grants, **SANDBOX)
        lease = Lease(Guests(function), Anything(chance), SANDBOX["batch_s"])
        if function.caller.signature.contract:
            items: list[Any] = chance.choice(BATCHES)
            lease.guest().batch(export, msgspec.msgpack.encode(items))
        else:
            items = [chance.choice([0, 1, -1, 0.5, b"x", "x", (1, 2), (3, 4, 5)])]
        for outcome in function.caller.many(lease, items):
            value_of(outcome, "fuzz")


KINDS = ("bytes", "mutation", "mutation", "outcomes", "outcomes")
ALLOWED = (ActorflowError, TypeError)
"""TypeError: what a function of numbers is called with here may be none, as in Python."""


def attempt(number: int, seed: int, sound: list[bytes], giver: list[Giver]) -> str:
    """Make one try and return what came of it. Raises: what must not be."""
    chance = random.Random(f"{seed}/{number}")
    kind = chance.choice(KINDS)
    try:
        if kind == "outcomes":
            if not giver:
                giver.append(Giver())
            giver[0].attempt(chance)
        else:
            run_module((as_module if kind == "bytes" else mutated)(chance, sound), chance)
    except ALLOWED as error:
        return f"{kind}: {type(error).__name__}"
    return f"{kind}: a value"


def child(first: int, last: int, seed: int, notes: Path) -> None:
    """Make tries one after another, each written down before it is made."""
    logging.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sound, giver = committed(), list[Giver]()
    found: collections.Counter[str] = collections.Counter()
    cache = Path(os.environ["ACTORFLOW_CACHE"])
    slowest = 0.0
    with notes.open("r+b", buffering=0) as file:
        for number in range(first, last):
            os.pwrite(file.fileno(), struct.pack("<Q", number), 0)
            began = time.monotonic()
            found[attempt(number, seed, sound, giver)] += 1
            took = time.monotonic() - began
            slowest = max(slowest, took)
            if took > TRY_S_MAX:
                raise TimeoutError(f"try {number} took {took:.1f} s")
            if number % 500 == 0:
                shutil.rmtree(cache, ignore_errors=True)  # compiled code of modules that come once
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if most > MEMORY_BYTES_MAX:
        raise MemoryError(f"{most:,} bytes were used")
    print(msgspec.json.encode([found, slowest, most]).decode())


def run(tries: int, seed: int, *, at_once: int = 5_000, say: Callable[[str], None] = print) -> list[str]:
    """Make tries in children and return what must not be, each with the try that shows it."""
    faults: list[str] = []
    total: collections.Counter[str] = collections.Counter()
    slowest, most, at = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        notes.write_bytes(bytes(8))
        environment = {**os.environ, "ACTORFLOW_CACHE": str(Path(folder) / "cache")}
        while at < tries:
            last = min(at + at_once, tries)
            command = [
                sys.executable,
                __file__,
                "--child",
                str(at),
                str(last),
                "--seed",
                str(seed),
                "--notes",
                str(notes),
            ]
            try:
                done = subprocess.run(
                    command,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=60 + (last - at) * 0.5,
                    check=False,
                )
                said = done.stderr.strip().splitlines()[-1:] if done.returncode else []
                status = f"ended with {done.returncode}: {' '.join(said)}"
            except subprocess.TimeoutExpired:
                done, status = None, "hangs"
            if done is not None and done.returncode == 0:
                counts, slow, used = msgspec.json.decode(done.stdout)
                total.update(counts)
                slowest, most, at = max(slowest, slow), max(most, used), last
                say(f"{at:,} tries; slowest {slowest:.2f} s, most memory {most >> 20} MiB")
                continue
            (number,) = struct.unpack("<Q", notes.read_bytes())
            faults.append(f"seed {seed}, try {number} {status}")
            say(faults[-1])
            at = number + 1
            if len(faults) > 20:
                break
    for outcome, count in sorted(total.items()):
        say(f"  {count:8,}  {outcome}")
    return faults


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tries", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--notes", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--one", type=int, help="make this try here, to see what it does")
    given = options.parse_args()
    if given.child:
        child(*given.child, given.seed, given.notes)
        return
    if given.one is not None:
        print(attempt(given.one, given.seed, committed(), []))
        return
    faults = run(given.tries, given.seed)
    print(f"{given.tries:,} tries, {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
