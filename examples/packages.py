"""What a Python package of Debian pulls in, hop by hop, and how much of the archive leans on each of those packages.

python -m examples.packages               follow package 2424, print a table, draw a picture
python -m examples.packages 391 391.svg   follow another one, draw it to 391.svg

The graph is real, but its packages have numbers for names. Two loops of one stream go over it: a delta iteration, which
ends when nothing changes any more, and synchronous rounds, which end when little changes.
"""

import argparse
import asyncio
import contextlib
import gzip
import tempfile
from cmath import phase, rect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import inf, tau
from operator import add, itemgetter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from actorflow import App, RequestReport, Stream

EDGES_FILE = Path(__file__).parent / "data" / "debian_python.edges.gz"  # a line "a b": package a depends on package b
EDGES = [(int(a), int(b)) for a, b in map(str.split, gzip.decompress(EDGES_FILE.read_bytes()).decode().splitlines())]
COUNT = 1 + max(map(max, EDGES))
NEEDED_BY = Counter(needed for _, needed in EDGES)
DEFAULT, DAMPING = 2424, 0.85

Valued = tuple[int, float]  # a package and its rank, or its hops


@dataclass(frozen=True)
class Package:
    number: int
    needs: tuple[int, ...]


@dataclass(frozen=True)
class Sum:
    """The sum of all ranks after a round, and by how much it has grown in it. No rank ever shrinks."""

    ranks: float = 0
    growth: float = inf


def all_packages(_: int) -> Iterator[Package]:
    needs: list[list[int]] = [[] for _ in range(COUNT)]
    for package, needed in EDGES:
        needs[package].append(needed)
    return (Package(number, tuple(needed)) for number, needed in enumerate(needs))


def one_hop_on(pair: tuple[Valued, Package]) -> Iterator[Valued]:
    (_, hops), package = pair
    return ((needed, hops + 1) for needed in package.needs)


def hand_on(pair: tuple[Valued, Package]) -> Iterator[Valued]:
    """A package counts 1 for itself, and gives equal parts of most of its rank to those that it needs."""
    (number, rank), package = pair
    yield number, 1
    for needed in package.needs:
        yield needed, DAMPING * rank / len(package.needs)


def named(name: str, point: Stream[int, Any]) -> Stream[int, tuple[str, Any]]:
    return point.map(lambda value: (name, value))


app = App("packages")
start = app.stream("packages", int)
packages = start.flat_map(all_packages)
hops = start.map(lambda number: (number, 0)).delta(  # the loop: what is needed by what is nearer is nearer too
    lambda nearer: nearer.join(packages, itemgetter(0), "number").flat_map(one_hop_on)
)
ranks = packages.map(lambda package: (package.number, 1)).iterate(  # the rounds: PageRank
    lambda ranked: (
        ranked.join(packages, itemgetter(0), "number")
        .flat_map(hand_on)
        .key_by(itemgetter(0))
        .fold(0, lambda rank, part: rank + part[1])
    ),
    vote=itemgetter(1),
    fold=add,
    initial=0,
    state=Sum(),
    update=lambda before, ranks: Sum(ranks, ranks - before.ranks),
    until=lambda after: after.growth < 1e-6 * after.ranks,
)
answer = (
    named("hops", hops.collect().map(dict))
    .merge(named("ranks", ranks.collect().map(dict)), named("end", ranks.loop_end))
    .collect()
    .map(dict)
)


# -- what comes of it: a picture and a table

SIZE, MARGIN, ROWS = 1200, 40, 10
COLOURS = "#ffffff", "#fde725", "#7ad184", "#22a8b8", "#5a7fd6", "#9a68d8", "#d85ab0"  # by hops
Hops = dict[int, int]
Ranks = dict[int, float]


def colour(hops: int) -> str:
    return COLOURS[min(hops, len(COLOURS) - 1)]


def xy(place: complex) -> str:
    return f"{place.real:.1f} {place.imag:.1f}"


def on_rings(hops: Hops, links: list[tuple[int, int]]) -> dict[int, complex]:
    """Place packages on rings by hops, each ring in an order, and turned in a way, that keeps links short."""
    near: dict[int, set[int]] = {package: set() for package in hops}
    for one, other in links:
        near[one].add(other)
        near[other].add(one)
    rings = [list(ring) for _, ring in groupby(sorted(hops, key=lambda package: (hops[package], package)), hops.get)]
    places = dict.fromkeys(hops, 0j)

    def pull(package: int) -> float:
        """Return the direction of those that a package is linked to; the more links they have, the less they pull."""
        others = sorted(other for other in near[package] if places[other])
        return phase(sum((places[other] / abs(places[other]) / len(near[other]) for other in others), 0j))

    for _ in range(20):
        for ring, packages in enumerate(rings[1:], 1):
            packages.sort(key=pull)
            slots = {package: tau * slot / len(packages) for slot, package in enumerate(packages)}
            turn = phase(sum((rect(1, pull(package) - angle) for package, angle in slots.items()), 0j))
            radius = (SIZE / 2 - MARGIN) * ring / (len(rings) - 1)
            places |= {package: rect(radius, angle + turn) for package, angle in slots.items()}
    return places


def line(a: complex, b: complex, shade: str) -> str:
    """Draw a link outwards as a curve from ring to ring; one along a ring, or back, bends inwards and is fainter."""
    if outwards := abs(b) > abs(a) + 1:
        between = (abs(a) + abs(b)) / 2
        bends = rect(between, phase(a or b)), rect(between, phase(b))
    else:
        bends = a * 0.75, b * 0.75
    width, opacity = (0.9, 0.45) if outwards else (0.6, 0.16)
    curve = f"M{xy(a)}C{xy(bends[0])} {xy(bends[1])} {xy(b)}"
    return f'<path d="{curve}" stroke="{shade}" stroke-width="{width}" stroke-opacity="{opacity}"/>'


def drawing(start: int, hops: Hops, ranks: Ranks, highest: list[int]) -> str:
    links = [(one, other) for one, other in EDGES if one in hops and other in hops]
    places = on_rings(hops, links)
    radii = {package: 2.4 * ranks[package] ** 0.25 for package in hops}
    edge, top, bottom = -SIZE / 2, MARGIN - SIZE / 2, SIZE / 2 - MARGIN
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{edge} {edge} {SIZE} {SIZE}" fill="#dde5f0">',
        "<style>text { font-family: sans-serif; font-size: 14px } path { fill: none }</style>",
        f'<rect x="{edge}" y="{edge}" width="100%" height="100%" fill="#0e1420"/>',
    ]
    for one, other in sorted(links, key=lambda link: hops[link[1]] - hops[link[0]]):  # those outwards on top
        svg.append(line(places[one], places[other], colour(hops[other])))
    for package in sorted(hops, key=lambda package: -ranks[package]):  # the small ones on top
        x, y = places[package].real, places[package].imag
        svg.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radii[package]:.1f}" '
            f'fill="{colour(hops[package])}" stroke="#0e1420" stroke-width="1.5"/>'
        )
    for package in (start, *highest):
        out = places[package] + rect(radii[package] + 6, phase(places[package]))
        svg.append(
            f'<text x="{out.real:.1f}" y="{out.imag + 5:.1f}" text-anchor="{"end" if out.real < 0 else "start"}" '
            f'stroke="#0e1420" stroke-width="4" stroke-linejoin="round" paint-order="stroke">{package}</text>'
        )
    svg += [
        f'<text x="{top}" y="{top + 16}" style="font-size: 26px; font-weight: bold">Package {start}</text>',
        f'<text x="{top}" y="{top + 42}">pulls in {len(hops) - 1:,} others</text>',
        f'<text x="{top}" y="{top + 62}">with {len(links):,} dependencies</text>',
        f'<text x="{top}" y="{bottom}">the larger, the higher its rank</text>',
    ]
    for row, (ring, size) in enumerate(sorted(Counter(hops.values()).items(), reverse=True), 1):
        text = f"{ring} {'hop' if ring == 1 else 'hops'}: {size}" if ring else "where it begins"
        svg += [
            f'<circle cx="{top + 6}" cy="{bottom - 22 * row - 5}" r="6" fill="{colour(ring)}"/>',
            f'<text x="{top + 20}" y="{bottom - 22 * row}">{text}</text>',
        ]
    return "\n".join([*svg, "</svg>\n"])


def table(start: int, hops: Hops, ranks: Ranks, highest: list[int]) -> Table:
    made = Table(
        "package", "hops", "rank", "needed by", title=f"what {start} pulls in: the highest of {len(hops) - 1:,}"
    )
    for column in made.columns:
        column.justify = "right"
    for package in highest:
        made.add_row(str(package), str(hops[package]), f"{ranks[package]:,.1f}", f"{NEEDED_BY[package]:,}")
    return made


def number_of_a_package(text: str) -> int:
    if not text.isdecimal() or int(text) >= COUNT:
        raise argparse.ArgumentTypeError(f"there is no package {text!r}; they are numbered from 0 to {COUNT - 1}")
    return int(text)


async def main() -> None:
    options = argparse.ArgumentParser(description="Follow the dependencies of Debian's Python packages with actorflow.")
    which = f"its number, 0 to {COUNT - 1} (default: {DEFAULT})"
    options.add_argument("package", nargs="?", type=number_of_a_package, default=DEFAULT, help=which)
    options.add_argument("svg", nargs="?", type=Path, help="where to draw the picture (default: a temporary file)")
    given = options.parse_args()
    svg = given.svg or Path(tempfile.mkdtemp(prefix="actorflow-")) / "packages.svg"
    console = Console()
    with console.status("following the dependencies") as status:

        def show(report: RequestReport) -> None:
            rounds = max((loop.round or 0 for loop in report.loops), default=0)
            status.update(f"ranking: round {rounds}, {report.outstanding:,} items under way")

        async with app.local() as client:
            found = await client.request(answer, given.package, on_progress=show)
    hops, ranks, end = found["hops"], found["ranks"], found["end"]
    highest = sorted(hops.keys() - {given.package}, key=lambda package: (-ranks[package], package))[:ROWS]
    await asyncio.to_thread(svg.write_text, drawing(given.package, hops, ranks, highest))
    console.print(table(given.package, hops, ranks, highest))
    console.print(f"the ranks of all {len(ranks):,} packages settled after {end.rounds} rounds", highlight=False)
    console.print(f"the picture is in {svg}", soft_wrap=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
