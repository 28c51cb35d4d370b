"""Functions that run as WebAssembly: typed Python, compiled to core modules."""
