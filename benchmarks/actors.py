"""Messages between plain actors, beside the bare run-queue runtime."""

from benchmarks import bare, ours
from benchmarks.harness import compare, parse_options


def main() -> None:
    options = parse_options(__doc__)
    count = options.size(300_000, 50_000)
    compare(
        "actors",
        sides={
            "ping-pong bare": lambda: bare.ping_pong(count),
            "ping-pong": lambda: ours.ping_pong(count),
            "ring bare": lambda: bare.ring(count),
            "ring": lambda: ours.ring(count),
            "tell bare": lambda: bare.tell(2 * count),
            "tell": lambda: ours.tell(2 * count),
        },
        ratios={
            "ping-pong": ("ping-pong", "ping-pong bare", 0.3),
            "ring": ("ring", "ring bare", 0.35),
            "tell": ("tell", "tell bare", 0.45),
        },
        repeats=options.repeats,
    )


if __name__ == "__main__":
    main()
