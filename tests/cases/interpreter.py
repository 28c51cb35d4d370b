"""An interpreter of commands: streams that trigger streams, at once, later or never, and calls within calls.

actorflow run tests.cases.interpreter:app --store sqlite:///interpreter.db
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actorflow import App, Limits, Operator

LATER_S = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """Commands: `{"k": "inc" | "egress"}`, or with `t` and `c` "send", "after", "cancelled", "call"."""

    instance: int
    commands: list[dict[str, Any]]


def interpreter(how: str = "merged") -> App:
    """Return an app whose stream "run" carries out a job and answers how often it, and what it calls, has counted.

    how: "merged", every instance has a counter that all may add to; "owned", only who has the instance in hand writes.
    """
    app = App("interpreter", limits=Limits(timeout_s=120.0))
    merged = app.counter("merged", key="instance", key_type=int)
    owned = app.table("owned", key="instance", key_type=int, value=int)
    egress = app.log("egress")

    class Interpret(Operator):
        concurrency = 10_000  # an instance may call itself, and the caller waits
        merged_ = merged.merged()
        egress_ = egress.merged()

        async def process(self, job: Job) -> int:
            counted = 0
            for command in job.commands:
                kind = command["k"]
                if kind == "inc":
                    counted += 1
                    if how == "merged":
                        self.merged_[job.instance].add(1)
                    else:
                        await self.call("add", job.instance)
                elif kind == "egress":
                    self.egress_.append(job.instance)
                else:
                    counted += await self.other(kind, Job(command["t"], command["c"]))
            return counted

        async def other(self, kind: str, job: Job) -> int:
            if kind == "call":
                return int(await self.call("run", job))
            if kind == "send":
                self.send("run", job)
                return 0
            ticket = self.send("run", job, after_s=LATER_S)
            if kind == "cancelled":
                self.cancel_send(ticket)
            return 0

    class Add(Operator):
        owned_ = owned.owned()

        def process(self, instance: int) -> int:
            self.owned_[instance] = count = self.owned_.get(instance, 0) + 1
            return count

    app.stream("run", Job, int).then(Interpret)
    app.stream("add", int, int).key_by(space="instance").then(Add)
    return app


app = interpreter()
owning_app = interpreter("owned")
