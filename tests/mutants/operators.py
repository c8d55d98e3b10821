"""The mutation operators: each changes one node of a syntax tree."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_WITHOUT_EFFECT = ("_log.", "failpoint(", "super().__init__(")
"""Calls that are not removed: logs are not a promise, and failpoints are for tests."""
Change = tuple[str, Callable[[ast.AST], ast.AST]]


@dataclass(frozen=True)
class Mutation:
    """A change of the node that ``ast.walk`` yields at position ``node``."""

    node: int
    lines: range
    scope: str
    change: str
    """The old and the new code; with the scope it identifies the mutation independently of its line."""
    apply: Callable[[ast.AST], ast.AST]
    """Returns the new node, which may be the changed old one."""


def mutations(source: str) -> list[Mutation]:
    """Return every mutation of a module's functions."""
    tree = ast.parse(source)
    positions = {node: number for number, node in enumerate(ast.walk(tree))}
    found = [
        Mutation(positions[node], _lines(node), scope, change, apply)
        for scope, node in _function_nodes(tree)
        for change, apply in (*_expression_changes(node), *_statement_changes(node))
    ]
    seen: Counter[tuple[str, str]] = Counter()
    numbered = []
    for each in sorted(found, key=lambda each: (each.lines.start, each.node)):
        seen[each.scope, each.change] += 1
        number = seen[each.scope, each.change]
        numbered.append(replace(each, change=f"{each.change} #{number}") if number > 1 else each)
    return numbered


def mutate(source: str, mutation: Mutation, filename: str) -> ast.Module:
    """Return the syntax tree of the mutant."""
    tree = ast.parse(source, filename)
    old = list(ast.walk(tree))[mutation.node]
    new = mutation.apply(old)
    if new is not old:
        ast.copy_location(new, old)
        _Replace(old, new).visit(tree)
    return ast.fix_missing_locations(tree)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the replacement of the old node."""
        return self._new if node is self._old else self.generic_visit(node)


def _lines(node: ast.AST) -> range:
    """The lines that a test executes when it executes the node; of an ``if`` statement those of its condition."""
    last = node.test if isinstance(node, ast.If) else node
    assert isinstance(node, ast.stmt | ast.expr)
    assert isinstance(last, ast.stmt | ast.expr)
    return range(node.lineno, (last.end_lineno or last.lineno) + 1)


def _function_nodes(tree: ast.AST, scope: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the nodes of function bodies with the name of the function; no annotations, defaults or decorators."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.ClassDef):
            yield from _function_nodes(child, f"{scope}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in child.body:
                yield from ((f"{scope}{child.name}", node) for node in _expressions(statement))


def _expressions(statement: ast.AST) -> Iterator[ast.AST]:
    yield statement
    for name, value in ast.iter_fields(statement):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _expressions(child)


def _expression_changes(node: ast.AST) -> Iterator[Change]:
    if not isinstance(node, ast.expr):
        return
    text = ast.unparse(node)
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=right):
            swapped = ast.Compare(left, [_COMPARISONS[type(operator)]()], right)
            yield f"{text} -> {ast.unparse(swapped)}", lambda _: swapped
        case ast.BoolOp(op=operator, values=values):
            joined = ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            yield f"{text} -> {ast.unparse(joined)}", lambda _: joined
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield f"{text} -> {ast.unparse(operand)}", lambda _: operand
        case ast.BinOp(op=operator) if type(operator) in _ARITHMETIC and not _is_text(node):
            other = ast.BinOp(node.left, _ARITHMETIC[type(operator)](), node.right)
            yield f"{text} -> {ast.unparse(other)}", lambda _: other
        case ast.Constant(value=bool(value)):
            yield f"{text} -> {not value}", lambda _: ast.Constant(not value)
        case ast.Constant(value=int(number)):
            yield f"{text} -> {number + 1}", lambda _: ast.Constant(number + 1)


def _statement_changes(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.If(test=test, body=body, orelse=orelse):
            yield f"if {ast.unparse(test)} -> if True", lambda _: ast.If(ast.Constant(value=True), body, orelse)
            yield f"if {ast.unparse(test)} -> if False", lambda _: ast.If(ast.Constant(value=False), body, orelse)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield f"{ast.unparse(node)} -> return None", lambda _: ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() as call) if not ast.unparse(call).startswith(_WITHOUT_EFFECT):
            yield f"{ast.unparse(call)} -> pass", lambda _: ast.Pass()


def _is_text(node: ast.BinOp) -> bool:
    """Whether an operand is a string: subtraction would only raise a TypeError."""
    parts = (node.left, node.right)
    return any(isinstance(part, ast.JoinedStr) or isinstance(getattr(part, "value", None), str) for part in parts)
