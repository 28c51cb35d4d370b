"""Measure the hand-written baselines and the peers beside one another, without actorflow.

Run `python -m benchmarks.baselines` to see whether a machine's figures are plausible before those of actorflow. Its
targets are loose: they tell a broken baseline from a sound one.
"""

from benchmarks import bare, data, peers_actors, peers_bytewax, queue_actor
from benchmarks.harness import Options, Report, measure, parse_options, publish


def main() -> None:
    options = parse_options(__doc__)
    publish("baselines", *actors(options), dataflows(options))


def actors(options: Options) -> list[Report]:
    fast = options.size(200_000, 20_000)
    slow = options.size(10_000, 1_000)
    return [
        measure(
            "ask, 1 in flight",
            sides={
                "bare": lambda: bare.ask(fast),
                "bare async": lambda: bare.ask(fast, echo=bare.AsyncEcho),
                "asyncio.Queue": lambda: queue_actor.ask(fast),
                "xoscar": lambda: peers_actors.xoscar_ask(slow),
                "xoscar, looked up": lambda: peers_actors.xoscar_ask(slow, looked_up=True),
                "pykka": lambda: peers_actors.pykka_ask(slow),
            },
            ratios={
                "bare/asyncio.Queue": ("bare", "asyncio.Queue", 1.0),
                "bare/xoscar": ("bare", "xoscar", 10.0),
                "bare/xoscar, looked up": ("bare", "xoscar, looked up", 1.0),
                "bare/pykka": ("bare", "pykka", 10.0),
            },
            repeats=options.repeats,
        ),
        measure(
            "ask, 256 in flight",
            sides={
                "bare": lambda: bare.ask(2 * fast, in_flight=256),
                "bare async": lambda: bare.ask(2 * fast, in_flight=256, echo=bare.AsyncEcho),
                "asyncio.Queue": lambda: queue_actor.ask(fast, in_flight=256),
                "xoscar": lambda: peers_actors.xoscar_ask(slow, in_flight=256),
                "xoscar, looked up": lambda: peers_actors.xoscar_ask(slow, in_flight=256, looked_up=True),
                "pykka": lambda: peers_actors.pykka_ask(slow, in_flight=256),
            },
            ratios={"bare/asyncio.Queue": ("bare", "asyncio.Queue", 1.0)},
            repeats=options.repeats,
        ),
        measure(
            "ping-pong",
            sides={
                "bare": lambda: bare.ping_pong(3 * fast),
                "xoscar": lambda: peers_actors.xoscar_ping_pong(slow),
                "xoscar, looked up": lambda: peers_actors.xoscar_ping_pong(slow, looked_up=True),
                "pykka": lambda: peers_actors.pykka_ping_pong(slow),
            },
            ratios={"bare/xoscar": ("bare", "xoscar", 40.0), "bare/pykka": ("bare", "pykka", 40.0)},
            repeats=options.repeats,
        ),
        measure(
            "ring of 100",
            sides={
                "bare": lambda: bare.ring(5 * fast),
                "xoscar": lambda: peers_actors.xoscar_ring(slow),
                "xoscar, looked up": lambda: peers_actors.xoscar_ring(slow, looked_up=True),
                "pykka": lambda: peers_actors.pykka_ring(slow),
            },
            ratios={"bare/xoscar": ("bare", "xoscar", 40.0), "bare/pykka": ("bare", "pykka", 40.0)},
            repeats=options.repeats,
        ),
        measure(
            "tell into a counter",
            sides={
                "bare": lambda: bare.tell(10 * fast),
                "xoscar": lambda: peers_actors.xoscar_tell(slow),
                "xoscar, looked up": lambda: peers_actors.xoscar_tell(slow, looked_up=True),
                "pykka": lambda: peers_actors.pykka_tell(5 * slow),
            },
            ratios={"bare/xoscar": ("bare", "xoscar", 40.0), "bare/pykka": ("bare", "pykka", 20.0)},
            repeats=options.repeats,
        ),
    ]


def dataflows(options: Options) -> Report:
    path = data.zipf_text(text_bytes=options.size(data.TEXT_BYTES, 1_000_000))
    events = data.keyed_events(count=options.size(data.EVENT_COUNT, 50_000))
    return measure(
        "dataflow",
        sides={
            "word count, plain": lambda: data.word_count(path),
            "word count, bytewax": lambda: peers_bytewax.word_count(path),
            "keyed sum, plain": lambda: data.keyed_sum(events),
            "keyed sum, bytewax": lambda: peers_bytewax.keyed_sum(events),
        },
        ratios={
            "word count, plain/bytewax": ("word count, plain", "word count, bytewax", 7.0),
            "keyed sum, plain/bytewax": ("keyed sum, plain", "keyed sum, bytewax", 7.0),
        },
        repeats=options.repeats,
    )


if __name__ == "__main__":
    main()
