"""Asking an operator in process, beside hand-written asyncio and the bare run-queue runtime."""

from benchmarks import bare, ours, queue_actor
from benchmarks.harness import measure, parse_options, publish


def main() -> None:
    options = parse_options(__doc__)
    count = options.size(100_000, 20_000)
    publish(
        "ask",
        measure(
            "1 in flight",
            sides={
                "asyncio.Queue": lambda: queue_actor.ask(count),
                "bare": lambda: bare.ask(count),
                "sync": lambda: ours.ask(count),
                "async": lambda: ours.ask(count, stream=ours.async_echo),
            },
            ratios={
                "sync/asyncio.Queue": ("sync", "asyncio.Queue", 2.0),
                "async/asyncio.Queue": ("async", "asyncio.Queue", 0.9),
                "sync/bare": ("sync", "bare", 1.0),
                "async/bare": ("async", "bare", 0.45),
            },
            repeats=options.repeats,
        ),
        measure(
            "256 in flight",
            sides={
                "bare": lambda: bare.ask(count, in_flight=256),
                "sync": lambda: ours.ask(count, in_flight=256),
                "actor": lambda: ours.ask_actor(count, in_flight=256),
                "async": lambda: ours.ask(count, in_flight=256, stream=ours.async_echo),
            },
            ratios={
                "sync/bare": ("sync", "bare", 0.4),
                "actor/bare": ("actor", "bare", 0.3),
                "async/bare": ("async", "bare", 0.2),
            },
            repeats=options.repeats,
        ),
    )


if __name__ == "__main__":
    main()
