"""What should run: apps, streams, operators and their checks. Nothing here runs anything."""
