"""What the code of Postgate keeps to everywhere, held by reading it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"
MODULES = sorted(APP.rglob("*.py"))
MUTATORS = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "remove", "set", "update"}
CATCHERS = {
    "workers/loop.py": 2,  # work that never ends
    "servers/listener.py": 1,  # the edge of the mail servers: a fault ends one conversation
    "api/stream/session.py": 1,  # the edge of the WebSocket: a fault ends one frame
    "api/stream/calls.py": 1,  # and one call
    "db/session.py": 1,  # what follows a commit cannot undo it
    "parsing/child.py": 1,  # a child process reports its fault to its parent
}
"""Where a handler may end every exception, and how many do. `api/middleware.py`, the edge of HTTP, raises again what it
cannot answer."""


def _is_unit(function: ast.AsyncFunctionDef) -> bool:
    """Whether it has a parameter `…: Transaction` of the database."""
    arguments = (*function.args.args, *function.args.kwonlyargs)
    return any(arg.annotation is not None and ast.unparse(arg.annotation) == "Transaction" for arg in arguments)


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _own_names(function: ast.AsyncFunctionDef) -> set[str]:
    stored = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    outer = {name for node in ast.walk(function) if isinstance(node, ast.Nonlocal) for name in node.names}
    return stored - outer


def _changes_outside(function: ast.AsyncFunctionDef) -> Iterator[str]:
    """What it changes that is not its own: names of an outer function, attributes, collections that it did not make."""
    own = _own_names(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Nonlocal):
            yield ast.unparse(node)
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            if _root(node) not in own:
                yield ast.unparse(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Attribute) and called.attr in MUTATORS and _root(called) not in own:
                yield ast.unparse(node)


def faults_of(source: str) -> list[str]:
    """The changes outside their transaction that the units of work of a module make."""
    tree = ast.parse(source)
    if "from app.db.session import" not in source:
        return []
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef))
    return [f"{unit.name}: {change}" for unit in functions if _is_unit(unit) for change in _changes_outside(unit)]


@pytest.mark.slow
def test_a_unit_of_work_changes_nothing_but_its_transaction() -> None:
    """A database may run it more than once. What must follow is given to `Transaction.after_commit`."""
    faults = {str(path.relative_to(APP)): faults_of(path.read_text()) for path in MODULES}

    assert {path: found for path, found in faults.items() if found} == {}


@pytest.mark.parametrize(
    "change", ["nonlocal found; found = 1", "self.found = 1", "found['a'] = 1", "found.append(1)", "found[0].add(1)"]
)
def test_the_reader_finds_each_kind_of_change_outside(change: str) -> None:
    source = "from app.db.session import Transaction\ndef outer(self):\n  found = None\n"
    unit = f"  async def work(transaction: Transaction):\n    {change}\n"

    assert len(faults_of(source + unit)) == 1


def _ends_every_exception(handler: ast.ExceptHandler) -> bool:
    caught = {"BaseException"} if handler.type is None else {ast.unparse(node) for node in ast.walk(handler.type)}
    is_broad = bool(caught & {"Exception", "BaseException"})
    return is_broad and not any(isinstance(node, ast.Raise) for node in ast.walk(handler))


@pytest.mark.slow
def test_every_exception_is_ended_in_loops_and_at_edges_alone() -> None:
    found = {}
    for path in MODULES:
        handlers = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler))
        if count := sum(map(_ends_every_exception, handlers)):
            found[str(path.relative_to(APP))] = count

    assert found == CATCHERS
