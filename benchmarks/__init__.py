"""Measure actorflow beside hand-written baselines and beside its peers, in one process and in one run."""
