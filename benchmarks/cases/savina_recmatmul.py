"""Savina 24, recursive matrix multiplication: divide and conquer by a master and twenty workers.

A worker multiplies a small pair of blocks and returns a large one as its eight quarter products, for others to take.
The blocks travel in the items, so the workers may live anywhere; the stream keys the partial products by their place
and adds them, and knows from the progress counts when the last one is in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import product
from typing import Any

from actorflow import Address, App, Client, Operator

BLOCK_MAX = 16
WORKERS = 20

Matrix = list[list[int]]


@dataclass(frozen=True, slots=True)
class Factors:
    """Two blocks to multiply; their product belongs at `row`, `column` of the result."""

    left: Matrix
    right: Matrix
    row: int = 0
    column: int = 0

    def quarters(self) -> list[Factors]:
        """Return the eight products of half the size whose sum, by place, is this one."""
        half = len(self.left) // 2
        return [
            Factors(
                quarter(self.left, i * half, k * half, half),
                quarter(self.right, k * half, j * half, half),
                self.row + i * half,
                self.column + j * half,
            )
            for i, j, k in product((0, 1), repeat=3)
        ]


@dataclass(frozen=True, slots=True)
class Work:
    """A multiplication for a worker, and whom to tell when it is done."""

    factors: Factors
    master: Address


@dataclass(frozen=True, slots=True)
class Done:
    """The smaller multiplications that a worker leaves to others; it is idle again."""

    worker: Address
    left_over: list[Factors]


@dataclass(frozen=True, slots=True)
class Product:
    """One summand of the block of the result at `place`."""

    place: tuple[int, int]
    block: Matrix


class Multiply(Operator):
    """Give each request a master."""

    def process(self, factors: Factors) -> None:
        self.tell(self.spawn(Master), factors)


class Master(Operator):
    """Deal multiplications to idle workers."""

    def __init__(self) -> None:
        self.waiting: deque[Factors] = deque()
        self.idle: list[Address] = []

    def process(self, item: Factors | Done) -> None:
        if isinstance(item, Done):
            self.waiting.extend(item.left_over)
            self.idle.append(item.worker)
        else:
            self.waiting.append(item)
            self.idle = [self.spawn(Worker) for _ in range(WORKERS)]
        while self.waiting and self.idle:
            self.tell(self.idle.pop(), Work(self.waiting.popleft(), self.address))


class Worker(Operator):
    """Multiply small blocks, divide large ones."""

    def process(self, work: Work) -> Product | None:
        factors = work.factors
        if len(factors.left) > BLOCK_MAX:
            self.tell(work.master, Done(self.address, factors.quarters()))
            return None
        self.tell(work.master, Done(self.address, []))
        columns = list(zip(*factors.right, strict=True))
        block = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in factors.left]
        return Product((factors.row, factors.column), block)


def quarter(matrix: Matrix, row: int, column: int, size: int) -> Matrix:
    """Return a block of a matrix."""
    return [line[column : column + size] for line in matrix[row : row + size]]


def plus(left: Product, right: Product) -> Product:
    """Add two summands of one block."""
    rows = zip(left.block, right.block, strict=True)
    return Product(left.place, [[a + b for a, b in zip(one, other, strict=True)] for one, other in rows])


def assemble(blocks: list[tuple[tuple[int, int], Product]]) -> Matrix:
    """Put the blocks of the result in their places."""
    size = len(blocks[0][1].block)
    side = max(row for (row, _), _ in blocks) + size
    result = [[0] * side for _ in range(side)]
    for (row, column), summed in blocks:
        for index, line in enumerate(summed.block):
            result[row + index][column : column + size] = line
    return result


app = App("savina-recmatmul")
recmatmul = app.stream("recmatmul", Factors, Matrix).then(Multiply).key_by("place").reduce(plus).collect().map(assemble)


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Multiply two matrices of side `D` whose elements are their row's and their column's number."""
    side = params["D"]
    left = [[row] * side for row in range(side)]
    right = [list(range(side)) for _ in range(side)]
    result = await client.request(recmatmul, Factors(left, right))
    return {
        "C_1_1": result[1][1],
        "C_last": result[-1][-1],
        "sum_of_C": sum(map(sum, result)),
        "trace": sum(result[index][index] for index in range(side)),
    }
