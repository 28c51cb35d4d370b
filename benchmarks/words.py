"""Word count of a large text and keyed running sums: beside plain Python, and beside Bytewax with one worker."""

from benchmarks import data, ours, peers_bytewax
from benchmarks.harness import measure, parse_options, publish


def main() -> None:
    options = parse_options(__doc__)
    path = data.zipf_text(text_bytes=options.size(50_000_000, 2_000_000))
    events = data.keyed_events(count=options.size(1_000_000, 100_000))
    publish(
        "words",
        measure(
            "word count",
            sides={
                "Counter": lambda: data.word_count(path),
                "built-in count": lambda: ours.word_count(path),
                "three lambdas": lambda: ours.word_count(path, ours.lambdas),
                "bytewax": lambda: peers_bytewax.word_count(path),
            },
            ratios={
                "built-in count": ("built-in count", "Counter", 0.8),
                "three lambdas": ("three lambdas", "Counter", 0.55),
                "built-in count/bytewax": ("built-in count", "bytewax", 7.0),
            },
            repeats=options.repeats,
        ),
        measure(
            "keyed sum",
            sides={
                "loop": lambda: data.keyed_sum(events),
                "process": lambda: ours.keyed_sum(events),
                "bytewax": lambda: peers_bytewax.keyed_sum(events),
            },
            ratios={
                "process/loop": ("process", "loop", 0.5),
                "process/bytewax": ("process", "bytewax", 7.0),
            },
            repeats=options.repeats,
        ),
    )


if __name__ == "__main__":
    main()
