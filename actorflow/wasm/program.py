"""A module, looked at: what it exports, what it wants of its host, and the sandbox that it runs in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import wasmtime

from actorflow.errors import ModuleError
from actorflow.wasm.binary import custom_section
from actorflow.wasm.engine import Engine, engine
from actorflow.wasm.guest import VALUES_MAX, Guest
from actorflow.wasm.hosting import ALLOC, linker_for, missing_of

Kind: TypeAlias = Literal["i32", "i64", "f32", "f64", "bool", "bytes"]
"""What a parameter, or a result, is."""
TYPES_SECTION = "actorflow.types"
"""Custom section that tells a truth value from a number, and bytes from two of them."""
_TYPES: Mapping[str, Kind] = {"int": "i64", "float": "f64", "bool": "bool", "bytes": "bytes"}

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a WASM function may use.

    memory_bytes: of linear memory.   table_elements: in tables.   slice_s: how long it may hold the event loop; what
    takes longer begins again in a thread.   batch_s: how long one batch may take, the deadline of the request aside.
    grants: of WASI, "stdout" (lines become log lines) and "clock"; "wasi" adds what language runtimes ask for at
    their start, which is empty: no arguments, no environment, no files.
    """

    memory_bytes: int = 64 * MIB
    table_elements: int = 10_000
    slice_s: float = 0.01
    batch_s: float = 1.0
    grants: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "table_elements", "slice_s", "batch_s"):
            value: Any = getattr(self, name)
            whole = not name.endswith("_s")
            kinds = (int,) if whole else (int, float)
            if not isinstance(value, kinds) or isinstance(value, bool) or not 0 < value < LIMIT_MAX:
                raise ValueError(f"{name}={value!r}: a limit is a positive {'whole ' * whole}number")
        if unknown := set(self.grants) - GRANTS:
            raise ValueError(f"grants={sorted(unknown)}: there are {', '.join(sorted(GRANTS))}")


LIMIT_MAX = 1 << 40
GRANTS = frozenset({"stdout", "clock", "wasi"})


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function is called. contract: it takes batches, as the contract says."""

    params: tuple[Kind, ...]
    result: Kind
    contract: bool = False

    @property
    def scalar(self) -> bool:
        """Return whether it takes and gives numbers only."""
        return not self.contract and "bytes" not in (*self.params, self.result)


class Program:
    """A compiled module. `digest`: its SHA-256, by which it is known."""

    def __init__(self, code: bytes, *, where: str) -> None:
        self.code = code
        self.where = where
        self.digest = hashlib.sha256(code).hexdigest()
        self.engine: Engine = engine()
        self.module = self.engine.compile(code, self.digest, where=where)
        self.exports: dict[str, Any] = {each.name: each.type for each in self.module.exports}
        self.imports: list[tuple[str, str]] = [(each.module, each.name or "") for each in self.module.imports]
        self._typed = _typed(code, where)
        self._linked: dict[frozenset[str], wasmtime.InstancePre] = {}

    @property
    def initializer(self) -> str | None:
        """Return the function of WASI's libraries that is to be called once, before all else."""
        names = ("_initialize", "__wasm_call_ctors")
        return next((name for name in names if has_type(self.exports.get(name), [], [])), None)

    @property
    def speaks_contract(self) -> bool:
        """Return whether it has what takes room for a batch."""
        return ALLOC in self.exports

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """Return the names of the functions that it exports."""
        return tuple(name for name, kind in self.exports.items() if isinstance(kind, wasmtime.FuncType))

    def signature(self, export: str) -> Signature:
        """Return how a function is called. Raises: ModuleError where there is none, or none that can be called."""
        kind = self.exports.get(export)
        if not isinstance(kind, wasmtime.FuncType):
            shown = ", ".join(name for name in self.functions if not name.startswith("_")) or "none"
            what = "has no function" if kind is None else "exports something else, and no function, as"
            raise ModuleError(f"{self.where} {what} {export!r} (functions: {shown})", module=self.where)
        params, results = ([str(each) for each in values] for values in (kind.params, kind.results))
        if len(params) > VALUES_MAX:
            said = f"{self.where}#{export} takes {len(params)} values, and {VALUES_MAX} are allowed"
            raise ModuleError(said, module=self.where)
        if declared := self._typed.get(export):
            return self._declared(export, declared, params, results)
        packs = params == ["i32", "i32"] and results == ["i64"]
        if self.speaks_contract and packs:
            self._check_contract()
        if packs and isinstance(self.exports.get("memory"), wasmtime.MemoryType):
            return Signature(("bytes",), "bytes", contract=self.speaks_contract)
        if len(results) != 1 or not params or not {*params, *results} <= {"i32", "i64", "f32", "f64"}:
            raise ModuleError(
                f"{self.where}#{export} is ({', '.join(params)}) → ({', '.join(results)}): a function takes "
                "numbers and gives one, or takes (pointer, length) as i32 and gives both as one i64",
                module=self.where,
            )
        return Signature(tuple(params), results[0])  # type: ignore[arg-type] # just checked

    def _check_contract(self) -> None:
        """Refuse what is called without a look at its type, and is of another one. Raises: ModuleError."""
        if not has_type(self.exports.get(ALLOC), ["i32"], ["i32"]):
            raise ModuleError(f"{self.where}: its {ALLOC} is not (bytes: i32) → pointer: i32", module=self.where)
        if not isinstance(self.exports.get("memory"), wasmtime.MemoryType):
            raise ModuleError(f"{self.where} exports {ALLOC}, and no memory as 'memory'", module=self.where)

    def _declared(self, export: str, declared: Signature, params: list[str], results: list[str]) -> Signature:
        wanted: list[str] = []
        for each in declared.params:
            wanted += ["i32", "i32"] if each == "bytes" else ["i32"] if each == "bool" else [each]
        if wanted != params or results != ["i32" if declared.result == "bool" else declared.result]:
            said = f"{self.where}#{export} is not of the type that its section {TYPES_SECTION!r} gives it"
            raise ModuleError(said, module=self.where)
        return declared

    def guest(self, sandbox: Sandbox) -> Guest:
        """Return an instance in its sandbox. Raises: ModuleError; what its start came to."""
        return Guest(self, sandbox)

    def linked(self, sandbox: Sandbox) -> wasmtime.InstancePre:
        """Return the module with its imports resolved. Raises: ModuleError for those that are not granted."""
        grants = frozenset(sandbox.grants)
        if grants not in self._linked:
            if missing := missing_of(self.imports, grants):
                raise ModuleError(f"{self.where} wants {missing}", module=self.where)
            try:
                self._linked[grants] = linker_for(self.engine.wasmtime).instantiate_pre(self.module)
            except wasmtime.WasmtimeError as error:
                words = " ".join(str(error).split())[:300]
                raise ModuleError(f"{self.where} cannot be linked: {words}", module=self.where) from None
        return self._linked[grants]


def has_type(kind: Any, params: list[str], results: list[str]) -> bool:
    """Return whether an export is a function of this type."""
    if not isinstance(kind, wasmtime.FuncType):
        return False
    return [str(each) for each in kind.params] == params and [str(each) for each in kind.results] == results


def _typed(code: bytes, where: str) -> dict[str, Signature]:
    """Return the signatures that a module declares in a section of its own."""
    try:
        section = custom_section(code, TYPES_SECTION)
        if section is None:
            return {}
        declared = json.loads(section)
        return {
            name: Signature(tuple(_TYPES[each] for each in kinds["params"]), _TYPES[kinds["result"]])
            for name, kinds in declared.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = f"{where}: its section {TYPES_SECTION!r} cannot be read: {error}"
        raise ModuleError(said, module=where) from None
