"""An app: the streams of one program, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar, overload

from actorflow import codec
from actorflow.errors import UnknownStreamError
from actorflow.limits import Limits
from actorflow.plan.operator import OnError, Restart
from actorflow.plan.stream import Stream, declare
from actorflow.plan.topology import Replies, Topology

Q = TypeVar("Q")


class AppPlan:
    """A named set of streams and the limits they run under."""

    def __init__(self, name: str, *, limits: Limits | None = None) -> None:
        if not name or not name.replace("-", "_").isidentifier():
            raise ValueError(f"App({name!r}): a name is letters, digits, '_' and '-', and begins with a letter")
        self.name = name
        self.limits = limits or Limits()
        self._streams: dict[str, Stream[Any, Any]] = {}

    @overload
    def stream(
        self,
        name: str,
        request_type: type[Q],
        reply_type: Any = ...,
        *,
        replies: Replies = ...,
        early: bool = ...,
        timeout_s: float | None = ...,
        in_flight: int | None = ...,
        on_error: OnError = ...,
        restart: Restart | None = ...,
    ) -> Stream[Q, Q]: ...
    @overload
    def stream(
        self,
        name: str,
        request_type: Any = ...,
        reply_type: Any = ...,
        *,
        replies: Replies = ...,
        early: bool = ...,
        timeout_s: float | None = ...,
        in_flight: int | None = ...,
        on_error: OnError = ...,
        restart: Restart | None = ...,
    ) -> Stream[Any, Any]: ...
    def stream(
        self,
        name: str,
        request_type: Any = Any,
        reply_type: Any = Any,
        *,
        replies: Replies = "one",
        early: bool = False,
        timeout_s: float | None = None,
        in_flight: int | None = None,
        on_error: OnError = "fail",
        restart: Restart | None = None,
    ) -> Stream[Any, Any]:
        """Declare a stream and return its entry, to which steps are chained.

        replies: "one" (delivered when the request is complete, so that a request which failed cannot have answered),
        "many" (streamed as they come) or "none". `early` delivers the one reply at once; later failures become dead
        letters. `timeout_s` is the default deadline; `in_flight` the most requests at once; `on_error` and `restart`
        the defaults of its operators.
        """
        if name in self._streams:
            raise ValueError(f"app {self.name!r} has a stream {name!r} already: names are unique")
        if not name or not all(part.isidentifier() for part in name.replace("-", "_").split(".")):
            raise ValueError(f"stream({name!r}): a name is letters, digits, '_', '-' and '.'")
        if replies not in {"one", "many", "none"}:
            raise ValueError(f"stream({name!r}, replies={replies!r}): one of 'one', 'many', 'none'")
        for kind in (request_type, reply_type):
            if isinstance(kind, type) and kind.__module__ != "builtins":
                codec.register(kind)
        entry = declare(
            name,
            request_type,
            reply_type,
            replies=replies,
            early=early,
            timeout_s=timeout_s,
            in_flight=in_flight,
            on_error=on_error,
            restart=restart or Restart(),
        )
        self._streams[name] = entry
        return entry

    @property
    def streams(self) -> Mapping[str, Topology]:
        """Return the topology of every stream by name."""
        return MappingProxyType({name: stream.topology for name, stream in self._streams.items()})

    def __getitem__(self, name: str) -> Stream[Any, Any]:
        """Return a stream by name. Raises: UnknownStreamError, which says what was meant."""
        try:
            return self._streams[name]
        except KeyError:
            raise UnknownStreamError(unknown_stream(name, self._streams), stream=name) from None

    def __repr__(self) -> str:
        return f"<app {self.name!r} with streams {', '.join(self._streams) or '(none)'}>"


def unknown_stream(name: str, known: Mapping[str, Any]) -> str:
    """Return the sentence that says which streams there are, and which was probably meant."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no stream {name!r}{hint} (streams: {', '.join(sorted(known)) or 'none'})"
