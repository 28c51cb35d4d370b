"""Loops: item-wise feedback, delta iteration and synchronous rounds, beside plain Python loops and Pathway."""

from benchmarks import loop_baselines as plain
from benchmarks import loop_sides as ours
from benchmarks import peers_pathway as pathway
from benchmarks.harness import Options, Report, measure, parse_options, publish


def main() -> None:
    options = parse_options(__doc__)
    publish("loops", collatz(options), components(options), pagerank(options), *costs(options))


def collatz(options: Options) -> Report:
    limit, fewer = options.size(100_000, 5_000), options.size(10_000, 1_000)
    return measure(
        "Collatz, item-steps",
        sides={
            "loop": lambda: plain.collatz(limit),
            "ints": lambda: ours.collatz(limit, ours.ints),
            "operator": lambda: ours.collatz(limit, ours.operator),
            "keyed": lambda: ours.collatz(limit, ours.keyed),
            "pathway": lambda: pathway.collatz(fewer),
        },
        ratios={
            "ints/loop": ("ints", "loop", 0.3),
            "keyed/loop": ("keyed", "loop", 0.15),
            "ints/pathway": ("ints", "pathway", 3.0),
            "keyed/pathway": ("keyed", "pathway", 3.0),
        },
        repeats=options.repeats,
    )


def components(options: Options) -> Report:
    nodes, edges = options.size(20_000, 2_000), options.size(100_000, 10_000)
    graph = plain.random_graph(nodes, edges)
    return measure(
        "connected components, runs",
        sides={
            "frontier loop": lambda: plain.components(graph),
            "process": lambda: ours.components(graph, edges, ours.Spread),
            "process_batch": lambda: ours.components(graph, edges, ours.SpreadBatch),
            "process, as they come": lambda: ours.components(graph, edges, ours.Spread, "-as-they-come"),
            "pathway": lambda: pathway.components(graph),
        },
        ratios={
            "process/frontier loop": ("process", "frontier loop", 0.45),
            "process_batch/frontier loop": ("process_batch", "frontier loop", 0.6),
            "process/pathway": ("process", "pathway", 20.0),
        },
        repeats=options.repeats,
    )


def pagerank(options: Options) -> Report:
    targets, rounds = plain.debian(), 20
    return measure(
        "PageRank, rounds",
        sides={
            "loop": lambda: plain.pagerank(targets, rounds),
            "process": lambda: ours.pagerank(targets, rounds, ours.Rank),
            "process_batch": lambda: ours.pagerank(targets, rounds, ours.RankBatch),
        },
        ratios={
            "process/loop": ("process", "loop", 0.22),
            "process_batch/loop": ("process_batch", "loop", 0.4),
        },
        repeats=options.repeats,
    )


def costs(options: Options) -> list[Report]:
    hops, rounds = options.size(200_000, 20_000), options.size(20_000, 2_000)
    requests = options.size(10_000, 1_000)
    return [
        measure(
            "hops of one envelope",
            sides={
                "forward edge": lambda: ours.hops("forward", hops),
                "feedback(when=)": lambda: ours.hops("when", hops),
                "self.feedback": lambda: ours.hops("feedback", hops),
            },
            ratios={
                "feedback(when=)/forward edge": ("feedback(when=)", "forward edge", 1 / 1.3),
                "self.feedback/forward edge": ("self.feedback", "forward edge", 1 / 1.3),
            },
            repeats=options.repeats,
        ),
        measure(
            "empty rounds, 16 replicas",
            sides={
                "bare calls": lambda: plain.empty_rounds(rounds, 16),
                "rounds": lambda: ours.empty_rounds(rounds, 16),
            },
            ratios={"rounds/bare calls": ("rounds", "bare calls", 1 / 6)},
            repeats=options.repeats,
        ),
        measure(
            "requests of 100 trips",
            sides={
                "one after the other": lambda: ours.requests(requests, at_once=False),
                "at once": lambda: ours.requests(requests, at_once=True),
            },
            ratios={"at once/one after the other": ("at once", "one after the other", 1 / 1.3)},
            repeats=options.repeats,
        ),
    ]


if __name__ == "__main__":
    main()
