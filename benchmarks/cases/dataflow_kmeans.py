"""Cut points into k clusters by Lloyd's method, until a round moves no point to another cluster.

Shows a loop that plays the same items again in every round; what a round comes to, the centroids, is the state of the
loop, which every replica reads in the next one.
"""

from __future__ import annotations

from math import fsum
from typing import Any, TypeAlias

import msgspec

from actorflow import App, Client, Operator
from benchmarks.cases import flow
from benchmarks.cases.generators import seq_hash

Place: TypeAlias = tuple[float, ...]

app = App("kmeans")


class Point(msgspec.Struct, frozen=True):
    """A point, by its number in the order of the input, and the cluster that it is in."""

    number: int
    place: Place
    cluster: int = -1


class Clusters(msgspec.Struct, frozen=True):
    """What a round comes to: where the centroids are, and the cluster of each point."""

    centroids: list[Place]
    cluster_of: list[int]
    settled: bool = False


def numbered(places: list[Place]) -> list[Point]:
    """Number the points of a request."""
    return [Point(number, place) for number, place in enumerate(places)]


def square_distance(one: Place, other: Place) -> float:
    """Return the square of the distance of two points."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def mean(points: list[Point]) -> Place:
    """Return the middle of some points; the sums are exact, so the order does not matter."""
    return tuple(fsum(along) / len(points) for along in zip(*(point.place for point in points), strict=True))


class Lloyd(Operator):
    """What the operators of the loop share: a request brings the centroids of the first round along."""

    @property
    def before(self) -> Clusters:
        return self.loop_state or Clusters(self.request.attributes["centroids"], [])


class Assign(Lloyd):
    """Give a point to the nearest centroid, to the first of several."""

    def process(self, point: Point) -> Point:
        distances = [square_distance(point.place, centroid) for centroid in self.before.centroids]
        return Point(point.number, point.place, distances.index(min(distances)))


class Move(Lloyd):
    """Move each centroid to the middle of its cluster; one without points stays where it is."""

    def process(self, members: list[tuple[int, list[Point]]]) -> Clusters:
        centroids = list(self.before.centroids)
        for cluster, points in members:
            centroids[cluster] = mean(points)
        assigned = sorted((point.number, cluster) for cluster, points in members for point in points)
        cluster_of = [cluster for _, cluster in assigned]
        last = self.round + 1 == self.request.attributes["max_iter"]
        return Clusters(centroids, cluster_of, settled=last or cluster_of == self.before.cluster_of)


clusters = (
    app.stream("kmeans", list[Place], timeout_s=600)
    .flat_map(numbered)
    .replay(
        lambda points: points.then(Assign, replicas=2).key_by("cluster").collect().collect().then(Move),
        fold=lambda _, moved: moved,
        until=lambda clusters: clusters.settled,
    )
)
answer = flow.record(clusters=clusters, iterations=clusters.loop_end.map(lambda end: end.rounds))


async def run(client: Client, params: dict[str, Any]) -> dict[str, Any]:
    """Cut the points of `params["file"]` into `k` clusters, in `max_iter` rounds at the most."""
    places = [tuple(map(float, line.split(","))) for line in flow.lines(flow.path_of(params, "file"))]
    start = places[: params["k"]]
    found = await client.request(answer, places, attributes={"centroids": start, "max_iter": params["max_iter"]})
    centroids, cluster_of = found["clusters"].centroids, found["clusters"].cluster_of
    return {
        "points": len(places),
        "dims": len(places[0]),
        "iterations": found["iterations"],
        "sizes": [cluster_of.count(cluster) for cluster in range(len(centroids))],
        "sse": fsum(square_distance(places[number], centroids[cluster]) for number, cluster in enumerate(cluster_of)),
        "centroids_first3": centroids[:3] if len(places[0]) <= 4 else None,
        "assignment_sha256": seq_hash(cluster_of),
    }
