"""Traces by OpenTelemetry, where a program has set that up: a span for each request, and for each activation.

The span of a request is below that of its caller (a `traceparent` among its attributes, or the span that is current
where it begins), those of activations below their request's, and those of child requests below the activation that
called. Within an activation its span is the current one, so that what an operator's own libraries trace is below it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actorflow.plan.operator import Operator
    from actorflow.runtime.request import Request

PARENT = "traceparent"


def tracer_of_program() -> Tracer | None:
    """Return what traces, if the program has set up a provider of OpenTelemetry's; None costs nothing later."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None or isinstance(api.get_tracer_provider(), (api.ProxyTracerProvider, api.NoOpTracerProvider)):
        return None
    return Tracer(api)


def with_parent(attributes: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the attributes of a request with the caller's span among them, if there is one."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None or (attributes is not None and PARENT in attributes):
        return attributes
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return attributes
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return {**(attributes or {}), PARENT: parent}


class Tracer:
    """Makes the spans of one host."""

    def __init__(self, api: Any) -> None:
        from opentelemetry import context
        from opentelemetry.trace.propagation import tracecontext

        self._api = api
        self._context = context
        self._propagator = tracecontext.TraceContextTextMapPropagator()
        self._tracer = api.get_tracer("actorflow")
        self._requests: dict[Request, Any] = {}
        self._classes: dict[type, type] = {}

    # -- requests

    def begin(self, request: Request) -> None:
        """Begin the span of a request; it ends when the request is answered."""
        span = self._tracer.start_span(
            f"request {request.stream.name}",
            context=self._above(request),
            kind=self._api.SpanKind.SERVER if request.parent is None else self._api.SpanKind.INTERNAL,
            attributes={"actorflow.stream": request.stream.name, "actorflow.host": request.host.name},
        )
        self._requests[request] = span
        request.more().own("watchers")[self._ended] = None

    def _above(self, request: Request) -> Any:
        """Return the context in which a request begins."""
        if self._api.get_current_span().get_span_context().is_valid:
            return self._context.get_current()
        if request.parent is not None and (span := self._requests.get(request.parent)) is not None:
            return self._api.set_span_in_context(span)
        parent = request.attributes.get(PARENT)
        return self._propagator.extract({PARENT: parent}) if isinstance(parent, str) else None

    def _ended(self, request: Request) -> None:
        span = self._requests.pop(request, None)
        if span is not None:
            span.set_attribute("actorflow.request_id", request.id)
            if request.error is not None:
                self._failed(span, request.error)
            span.end()

    def _failed(self, span: Any, error: BaseException) -> None:
        status = self._api.Status(self._api.StatusCode.ERROR, f"{type(error).__name__}: {error}"[:1_000])
        span.record_exception(error)
        span.set_status(status)

    # -- activations

    def watch(self, op: Operator) -> None:
        """Have the activations of an operator traced: its class becomes one whose `process` makes a span."""
        kind = type(op)
        traced = self._classes.get(kind)
        if traced is None:
            methods = {
                name: self._traced(getattr(kind, name))
                for name in ("process", "process_batch")
                if inspect.isfunction(getattr(kind, name, None))
            }
            names = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
            traced = self._classes[kind] = type(kind.__name__, (kind,), {**names, **methods})
        op.__class__ = traced

    def _traced(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of the same kind that makes a span around its work."""
        tracer = self
        if inspect.iscoroutinefunction(method):

            @functools.wraps(method)
            async def process(self: Operator, item: Any) -> Any:
                with tracer._activation(self._activation):
                    return await method(self, item)

        elif inspect.isasyncgenfunction(method):

            @functools.wraps(method)
            async def process(self: Operator, item: Any) -> AsyncIterator[Any]:
                with tracer._activation(self._activation, current=False):
                    async for each in method(self, item):
                        yield each

        elif inspect.isgeneratorfunction(method):

            @functools.wraps(method)
            def process(self: Operator, item: Any) -> Iterator[Any]:
                with tracer._activation(self._activation, current=False):
                    yield from method(self, item)

        else:

            @functools.wraps(method)
            def process(self: Operator, item: Any) -> Any:
                with tracer._activation(self._activation):
                    return method(self, item)

        return process

    @contextlib.contextmanager
    def _activation(self, activation: Any, *, current: bool = True) -> Iterator[None]:
        """Make a span of an activation. current: also the current one, which a generator's cannot be between items."""
        request, replica = activation.request, activation.replica
        above = self._requests.get(request)
        span = self._tracer.start_span(
            f"{request.stream.name}/{replica.name}",
            context=self._api.set_span_in_context(above) if above is not None else None,
            attributes={
                "actorflow.stream": request.stream.name,
                "actorflow.operator": replica.node.name,
                "actorflow.replica": replica.index,
                "actorflow.request_id": request.id,
            },
        )
        token = self._context.attach(self._api.set_span_in_context(span)) if current else None
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception):
                self._failed(span, error)
            raise
        finally:
            if token is not None:
                self._context.detach(token)
            span.end()
