"""The same asks and messages beside xoscar and Pykka: what a user would pick instead."""

from benchmarks import ours, peers_actors
from benchmarks.harness import Options, Report, Side, measure, parse_options, publish


def one(name: str, options: Options, *, us: Side, xoscar: Side, pykka: Side) -> Report:
    return measure(
        name,
        sides={"actorflow": us, "xoscar": xoscar, "pykka": pykka},
        ratios={"xoscar": ("actorflow", "xoscar", 20.0), "pykka": ("actorflow", "pykka", 15.0)},
        repeats=options.repeats,
    )


def main() -> None:
    options = parse_options(__doc__)
    fast, slow = options.size(100_000, 20_000), options.size(10_000, 1_000)
    publish(
        "peers",
        one(
            "ask, 1 in flight",
            options,
            us=lambda: ours.ask(fast),
            xoscar=lambda: peers_actors.xoscar_ask(slow),
            pykka=lambda: peers_actors.pykka_ask(slow),
        ),
        one(
            "ping-pong",
            options,
            us=lambda: ours.ping_pong(fast),
            xoscar=lambda: peers_actors.xoscar_ping_pong(slow),
            pykka=lambda: peers_actors.pykka_ping_pong(slow),
        ),
        one(
            "ring of 100",
            options,
            us=lambda: ours.ring(fast),
            xoscar=lambda: peers_actors.xoscar_ring(slow),
            pykka=lambda: peers_actors.pykka_ring(slow),
        ),
        one(
            "tell",
            options,
            us=lambda: ours.tell(2 * fast),
            xoscar=lambda: peers_actors.xoscar_tell(slow),
            pykka=lambda: peers_actors.pykka_tell(slow),
        ),
    )


if __name__ == "__main__":
    main()
