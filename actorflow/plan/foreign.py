"""Functions that are not Python's: they stand in a stream where a Python function, or an operator, may stand."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from actorflow.plan.operator import Operator

Shape: TypeAlias = Literal["then", "map", "filter", "flat_map"]
"""What a function stands for: an operator, or what a stateless step does with what it gives."""


class Foreign(ABC):
    """A function in another language, by its reference: `scheme:file#export`.

    As an operator, or in `map`, `filter` and `flat_map`, it is given whole batches and has a mailbox of its own;
    elsewhere (keys, folds, choices) it is called like any Python function.
    """

    reference: str

    @property
    @abstractmethod
    def options(self) -> Mapping[str, Any]:
        """Return how it was declared, as plain values, without what is by default."""

    @abstractmethod
    def __call__(self, *values: Any) -> Any:
        """Return what it makes of some values."""

    @abstractmethod
    def operator(self, shape: Shape) -> type[ForeignOperator]:
        """Return the operator that it is in a place: always the same class for the same place."""


class ForeignOperator(Operator):
    """An operator whose code is a function in another language."""

    foreign: ClassVar[Foreign]
    shape: ClassVar[Shape] = "then"


def check_scheme(reference: str) -> None:
    """Refuse a language that there is nothing for. Raises: ValueError, also where what runs it is not installed."""
    scheme = reference.partition(":")[0]
    if scheme != "wasm":
        raise ValueError(f"there are python: and wasm: functions, and no {scheme}: ones")
    if importlib.util.find_spec("wasmtime") is None:
        raise ValueError("WASM needs wasmtime, which is not here: pip install 'actorflow[wasm]'")


def in_stream(function: Any) -> Any:
    """Return what stands in a stream for a function: what it was compiled to, where that is so."""
    stands = getattr(function, "__in_stream__", None)
    return function if stands is None else stands()
