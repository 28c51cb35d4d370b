"""Statements of the subset, from Python's tree to the typed one, and which locals have a value where.

A local that might be read before it has a value is refused, since Python would raise UnboundLocalError there. The
analysis goes forward once: what a loop assigns is not counted behind it, unless its range is surely not empty.
"""

from __future__ import annotations

import ast

from actorflow.wasm.compiler.expressions import CONSTRUCTS, Expressions, Scope, as_int
from actorflow.wasm.compiler.signature import RESULTS, signature_of, type_named
from actorflow.wasm.compiler.source import MISSING, Source
from actorflow.wasm.compiler.tree import (
    Assign,
    Break,
    Constant,
    Continue,
    Evaluate,
    Expression,
    ForBytes,
    ForRange,
    Function,
    If,
    Local,
    Return,
    Statement,
    While,
)

Assigned = frozenset[str] | None
"""Locals that surely have a value, or None where nothing arrives."""


def function_of(source: Source) -> Function:
    """Return the typed tree of a function. Raises: CompileError, at the first thing outside the subset."""
    signature = signature_of(source)
    stored = {node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name) and _stores(node)}
    names = frozenset(stored | set(signature.params))
    scope = Scope(source, signature, names, dict(signature.params), frozenset(signature.params))
    statements = _Statements(scope)
    body = source.tree.body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        body = body[1:]
    done = statements.block(body)
    if scope.assigned is not None:
        raise source.refusal(
            source.tree.end_lineno or source.tree.lineno,
            f"'{source.tree.name}' may come to its end without a return",
            "a return on every path",
        )
    return Function(source.tree.name, signature, scope.types, done, tuple(scope.calls))


def _stores(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


def meet(one: Assigned, other: Assigned) -> Assigned:
    """Return what surely has a value where two ways come together."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


class _Loop:
    """What surely has a value where a loop is left, or begins its next trip, early."""

    def __init__(self) -> None:
        self.broken: Assigned = None
        self.continued: Assigned = None


class _Statements:
    """Types the statements of one function."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._source = scope.source
        self._expressions = Expressions(scope)
        self._loops: list[_Loop] = []

    def block(self, nodes: list[ast.stmt]) -> tuple[Statement, ...]:
        """Return statements; those that nothing arrives at are checked, and left out."""
        done: list[Statement] = []
        for node in nodes:
            arrives = self._scope.assigned is not None
            made = self._statement(node)
            if arrives:
                done += made
        return tuple(done)

    def _statement(self, node: ast.stmt) -> list[Statement]:
        match node:
            case ast.Assign():
                return self._assign(node)
            case ast.AnnAssign(target=ast.Name(), simple=1):
                return self._annotated(node)
            case ast.AugAssign(target=ast.Name()):
                return self._augmented(node)
            case ast.Expr():
                return [Evaluate(self._expressions.value(node.value))]
            case ast.If():
                return self._if(node)
            case ast.While():
                return self._while(node)
            case ast.For():
                return self._for(node)
            case ast.Return():
                return self._return(node)
            case ast.Break():
                self._loops[-1].broken = meet(self._loops[-1].broken, self._scope.assigned)
                self._scope.assigned = None
                return [Break()]
            case ast.Continue():
                self._loops[-1].continued = meet(self._loops[-1].continued, self._scope.assigned)
                self._scope.assigned = None
                return [Continue()]
            case ast.Pass():
                return []
            case ast.AugAssign():
                self._target(node.target)
        raise self._scope.outside(node, node.lineno)

    # -- assignments

    def _target(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Name):
            what = CONSTRUCTS.get(type(node), "what is no name").replace(" that is not assigned to as many names", "")
            raise self._source.refusal(
                node.lineno,
                f"an assignment to {what} is outside the subset that compiles to WASM",
                "names, or as many names as there are values",
            )
        return node.id

    def _settle(self, name: str, kind: type, line: int) -> None:
        """Give a local its type, or refuse a second one."""
        known = self._scope.types.setdefault(name, kind)
        if known is not kind or kind is bytes:
            found = f"'{name}' is {known.__name__} and is assigned {kind.__name__}"
            raise self._source.refusal(line, found, "one type per local; int(x), float(x) and bool(x) convert")

    def _set(self, names: list[str]) -> None:
        if self._scope.assigned is not None:
            self._scope.assigned |= frozenset(names)

    def _assign(self, node: ast.Assign) -> list[Statement]:
        if len(node.targets) == 1 and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
            targets = [self._target(each) for each in node.targets[0].elts]
            if len(targets) != len(node.value.elts):
                raise self._source.refusal(
                    node.lineno,
                    f"{len(node.value.elts)} values are assigned to {len(targets)} names",
                    "as many names as there are values",
                )
            values = [self._expressions.value(each) for each in node.value.elts]
        else:
            targets = [self._target(each) for each in node.targets]
            values = [self._expressions.value(node.value)]
        for name, value in zip(targets, values * (len(targets) if len(values) == 1 else 1), strict=True):
            self._settle(name, value.type, node.lineno)
        self._set(targets)
        if len(values) == len(targets):
            return [Assign(tuple(targets), tuple(values))]
        first = Local(values[0].type, node.lineno, targets[0])  # a chain: all are given what the first was
        rest: list[Statement] = [Assign((name,), (first,)) for name in targets[1:]]
        return [Assign((targets[0],), (values[0],)), *rest]

    def _annotated(self, node: ast.AnnAssign) -> list[Statement]:
        name = self._target(node.target)
        kind = type_named(self._source, node.annotation, RESULTS, f"the local '{name}'")
        if node.value is None:
            self._settle(name, kind, node.lineno)
            return []
        value = self._expressions.value(node.value)
        self._settle(name, kind, node.lineno)
        self._settle(name, value.type, node.lineno)
        self._set([name])
        return [Assign((name,), (value,))]

    def _augmented(self, node: ast.AugAssign) -> list[Statement]:
        name = self._target(node.target)
        before = self._expressions.value(ast.copy_location(ast.Name(name, ast.Load()), node.target))
        value = self._expressions.binary(node.op, before, self._expressions.value(node.value), node.lineno)
        self._settle(name, value.type, node.lineno)
        return [Assign((name,), (value,))]

    # -- ways

    def _if(self, node: ast.If) -> list[Statement]:
        test = self._expressions.condition(node.test)
        before = self._scope.assigned
        then = self.block(node.body)
        after = self._scope.assigned
        self._scope.assigned = before
        otherwise = self.block(node.orelse)
        self._scope.assigned = meet(after, self._scope.assigned)
        return [If(test, then, otherwise)]

    def _loop(self, body: list[ast.stmt]) -> tuple[tuple[Statement, ...], _Loop]:
        loop = _Loop()
        self._loops.append(loop)
        done = self.block(body)
        self._loops.pop()
        return done, loop

    def _no_else(self, node: ast.While | ast.For) -> None:
        if node.orelse:
            raise self._source.refusal(
                node.orelse[0].lineno, "'else' of a loop is outside the subset that compiles to WASM"
            )

    def _while(self, node: ast.While) -> list[Statement]:
        self._no_else(node)
        test = self._expressions.condition(node.test)
        before = self._scope.assigned
        body, loop = self._loop(node.body)
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        self._scope.assigned = loop.broken if endless else meet(before, loop.broken)
        return [While(test, body)]

    def _for(self, node: ast.For) -> list[Statement]:
        self._no_else(node)
        target = self._target(node.target)
        name = self._scope.view(node.iter)
        if name is not None:
            bounds: list[Expression] = []
        else:
            bounds = self._range(node.iter)
        before = self._scope.assigned
        self._settle(target, int, node.lineno)
        self._set([target])
        body, loop = self._loop(node.body)
        done = meet(self._scope.assigned, meet(loop.broken, loop.continued))
        self._scope.assigned = done if _surely_runs(bounds) else meet(before, loop.broken)
        if name is not None:
            return [ForBytes(target, name, body)]
        return [ForRange(node.lineno, target, bounds[0], bounds[1], bounds[2], body)]

    def _range(self, node: ast.expr) -> list[Expression]:
        called = MISSING
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in self._scope.names:
            called = self._source.meaning(node.func.id)
        if called is not range or not isinstance(node, ast.Call) or node.keywords or not 1 <= len(node.args) <= 3:
            raise self._source.refusal(
                node.lineno,
                f"'for' over '{ast.unparse(node)}' is outside the subset",
                "range(…) with one to three arguments, or a parameter of bytes",
            )
        bounds = [as_int(self._expressions.value(each)) for each in node.args]
        for bound in bounds:
            if bound.type is not int:
                raise self._source.refusal(node.lineno, "a range of floats", "ints; int(x) converts")
        if len(bounds) == 1:
            bounds.insert(0, Constant(int, node.lineno, 0))
        if len(bounds) == 2:
            bounds.append(Constant(int, node.lineno, 1))
        if isinstance(bounds[2], Constant) and bounds[2].value == 0:
            raise self._source.refusal(node.lineno, "a range with step 0", "any other step")
        return bounds

    def _return(self, node: ast.Return) -> list[Statement]:
        if node.value is None:
            raise self._source.refusal(node.lineno, "'return' without a value", "a value of the declared type")
        value = self._expressions.value(node.value)
        wanted = self._scope.signature.result
        if value.type is not wanted:
            raise self._source.refusal(
                node.lineno,
                f"{value.type.__name__} is returned, and {wanted.__name__} declared",
                "the declared type; int(x), float(x) and bool(x) convert",
            )
        self._scope.assigned = None
        return [Return(value)]


def _surely_runs(bounds: list[Expression]) -> bool:
    """Return whether a range of constants has a first value."""
    known = [bound.value for bound in bounds if isinstance(bound, Constant)]
    return len(known) == 3 and bool(range(*map(int, known)))
