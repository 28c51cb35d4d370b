"""Tools to test dataflow applications: simulated time, order and network."""
