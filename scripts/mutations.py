"""Mutants of a module: its source with one operator, number, condition, text or call changed.

Left as they are: imports, annotations, docstrings, decorators, what is raised, f-strings, and
`strict` of `zip`, which only asserts.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift,
    ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}
NEGATED_BY_OPERATOR = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
NAMES = {
    one: other for pair in (
        ("min", "max"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"),
        ("zeros", "ones"), ("zeros_like", "ones_like"), ("argmin", "argmax"), ("sin", "cos"),
        ("mean", "sum"), ("logical_and", "logical_or"),
    ) for one, other in (pair, pair[::-1])
}
CONDITIONS = (ast.If, ast.IfExp, ast.While)
UNTOUCHED_FIELDS = ("annotation", "returns", "decorator_list", "type_params")


class Mutant(NamedTuple):
    """A changed module.

    Attributes:
        lines: First and last line of the statement that is changed, without its body.
        place: Function or class that it is in; empty outside of all.
        before: The statement.
        after: The changed statement.
        source: The changed module.
    """

    lines: tuple[int, int]
    place: str
    before: str
    after: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield the mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    yield from _of_statements(tree, tree, "")


def _of_statements(tree: ast.Module, node: ast.AST, place: str) -> Iterator[Mutant]:
    for holder in (node, *getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(holder, field, None)
            if not isinstance(statements, list):
                continue
            for number, statement in enumerate(statements):
                if _is_left(statement):
                    continue
                inside = place
                if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                    inside = f"{place}.{statement.name}".lstrip(".")
                before, lines = _text(statement), _lines(statement)
                for holder_of, name, index, new in _changes(statements, number):
                    old = _put(holder_of, name, index, new)
                    yield Mutant(lines, inside, before, _text(statements[number]),
                                 ast.unparse(ast.fix_missing_locations(tree)))
                    _put(holder_of, name, index, old)
                yield from _of_statements(tree, statement, inside)


def _is_left(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
        return True
    if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
        return True
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _lines(statement: ast.stmt) -> tuple[int, int]:
    body = getattr(statement, "body", None)
    return statement.lineno, body[0].lineno - 1 if body else statement.end_lineno


def _text(statement: ast.stmt) -> str:
    """Return the text of a statement, without its body."""
    shown = copy.copy(statement)
    for field in ("body", "orelse", "finalbody", "handlers", "decorator_list"):
        if isinstance(getattr(shown, field, None), list):
            setattr(shown, field, [])
    return " ".join(ast.unparse(shown).split())


def _put(holder, name: str | None, index: int | None, new):
    """Put a node or value in the place of another; return that one."""
    if name is None:
        old, holder[index] = holder[index], new
    elif index is None:
        old = getattr(holder, name)
        setattr(holder, name, new)
    else:
        values = getattr(holder, name)
        old, values[index] = values[index], new
    return old


def _changes(statements: list[ast.stmt], number: int) -> Iterator[tuple]:
    """Yield (holder, field, index, new) of a statement, its body left as it is."""
    statement = statements[number]
    if isinstance(statement, ast.Raise) or (
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
        yield statements, None, number, ast.Pass()
    if isinstance(statement, ast.Break | ast.Continue):
        other = ast.Continue if isinstance(statement, ast.Break) else ast.Break
        yield statements, None, number, other()
    if isinstance(statement, ast.AugAssign):
        yield statements, None, number, ast.Assign([statement.target], statement.value, lineno=0)
    if not isinstance(statement, ast.Raise):
        yield from _inside(statement)


def _inside(node: ast.AST) -> Iterator[tuple]:
    if isinstance(node, ast.JoinedStr):
        return
    yield from _of_node(node)
    for name, value in ast.iter_fields(node):
        if name in UNTOUCHED_FIELDS:
            continue
        several = isinstance(value, list)
        for index, child in enumerate(value if several else [value]):
            if not isinstance(child, ast.AST) or isinstance(
                    child, ast.stmt | ast.excepthandler | ast.match_case):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue
            place = index if several else None
            yield from ((node, name, place, new) for new in _replacements(child))
            if (name == "test" and isinstance(node, CONDITIONS)) or (
                    name == "ifs" and isinstance(node, ast.comprehension)):
                yield from ((node, name, place, new) for new in _negated(child))
            yield from _inside(child)


def _of_node(node: ast.AST) -> Iterator[tuple]:
    """Yield the changes of a node's own values."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in OPERATORS:
        yield node, "op", None, OPERATORS[type(node.op)]()
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            yield node, "ops", index, OPERATORS[type(op)]()
    if isinstance(node, ast.Name) and node.id in ("min", "max", "any", "all"):
        yield node, "id", None, NAMES[node.id]
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield node, "attr", None, NAMES[node.attr]
    if isinstance(node, ast.Call):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg not in (None, "strict"):
                rest = node.keywords[:index] + node.keywords[index + 1:]
                yield node, "keywords", None, rest
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield node, "value", None, not value
        elif isinstance(value, int | float | complex):
            yield node, "value", None, value + 1
        elif isinstance(value, str | bytes):
            yield node, "value", None, (
                f"XX{value}XX" if isinstance(value, str) else b"XX" + value)


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand


def _negated(test: ast.AST) -> Iterator[ast.AST]:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], NEGATED_BY_OPERATOR):
        return
    yield ast.UnaryOp(ast.Not(), test)
