"""Tools for testing programs: apps in process, virtual time, and checks that nothing is left.

In a pytest test, ask for the fixture `local` (see `actorflow.testing.plugin`), or run a whole system on a simulated
event loop with `simulate`: time is virtual, the order of turns follows a seed, and a deadlock is reported at once.
"""

from actorflow.testing.leftovers import LeftoverError, check_nothing_left
from actorflow.testing.loop import (
    DeadlockError,
    LeakedTaskError,
    SimulatedLoop,
    SimulationError,
    SimulationLimitError,
    simulate,
)
from actorflow.testing.simulation import simulated

__all__ = [
    "DeadlockError",
    "LeakedTaskError",
    "LeftoverError",
    "SimulatedLoop",
    "SimulationError",
    "SimulationLimitError",
    "check_nothing_left",
    "simulate",
    "simulated",
]
