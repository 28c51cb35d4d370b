"""Functions in other languages: `make wasm` compiles them into `built/`, where those that are small are committed.

c/actorflow.h, zig/actorflow.zig, assemblyscript/actorflow.ts    what a function needs: memory, MessagePack, the host
c/tokens.c                  lines of text → words in lower case, for flat_map
assemblyscript/filter.ts    which words stay, for filter
component/                  the same by types: wit/function.wit, in C and in Python
conformance.*               what all of them do alike; conformance.md lists it
"""
