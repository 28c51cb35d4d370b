"""Tests import `benchmarks` and `examples` from the repository's root, wherever pytest is started."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
settings.register_profile("actorflow", deadline=None)  # a busy machine is no fault of what is tested
settings.load_profile("actorflow")
