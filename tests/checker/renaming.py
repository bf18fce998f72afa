"""The same program in other words: other names of variables, functions, classes and attributes, no comments.

``renamed(text)`` does the same on the same lines. Names stay that the program did not choose: what it
imports, keywords of other people's functions (also set as an attribute: ``optimizer.lr``), attributes that a
library has too, and what one of its strings mentions (a command line's words, ``getattr``).
"""

# ruff: noqa: N802  libcst finds a visitor's methods by the names of its nodes

from __future__ import annotations

import argparse
import collections
import functools
import importlib
import re

import libcst as cst
from libcst import metadata as md

LIBRARIES = (
    "torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.optim.lr_scheduler",
    "torch.utils.data", "torch.autograd", "torch.autograd.function", "torch.distributions", "torch.amp",
    "torch.multiprocessing", "numpy", "threading", "logging", "random", "collections", "enum", "pathlib",
)  # fmt: skip
NOT_OWN = (md.ImportAssignment, md.BuiltinAssignment)
HELD = frozenset(("data", "target", "images", "feature_names", "target_names"))
"""What scikit-learn's data sets hold under these names."""
PASSED_ON = ("partial", "replace")
"""Functions of libraries that give their keywords to a function or class of the program."""


@functools.cache
def of_libraries() -> frozenset[str]:
    """Attributes that libraries' objects have: a program's own of the same name may override one."""
    names = set(HELD)
    for one in (argparse.Namespace, str, list, dict, set, collections.deque):
        names |= set(dir(one))
    for library in map(importlib.import_module, LIBRARIES):
        for name, value in list(vars(library).items()):
            names.add(name)
            if isinstance(value, type):
                names |= set(dir(value))
                made = getattr(value.__init__, "__code__", None)
                names |= set(made.co_names if made else ())
    return frozenset(names)


def last(node: cst.BaseExpression) -> str:
    """The last name of an expression with dots."""
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else ""


def others(scope: md.Scope | None, node: cst.BaseExpression) -> bool:
    """Whether an expression with dots starts at something imported or built in."""
    while isinstance(node, cst.Attribute):
        node = node.value
    found = scope[node.value] if scope is not None and isinstance(node, cst.Name) else ()
    return any(isinstance(one, NOT_OWN) for one in found)


class Census(cst.CSTVisitor):
    """What a program binds, calls and mentions."""

    METADATA_DEPENDENCIES = (md.ScopeProvider, md.ExpressionContextProvider)

    def __init__(self):
        super().__init__()
        self.mentioned: set[str] = set()
        self.attributes: set[str] = set()
        self.takes: dict[str, set[str]] = {}
        """The parameters of each function of the program, and of classes by their ``__init__``."""
        self.fields: dict[str, set[str]] = {}
        """What a class of the program declares with a type: a data class takes it as a keyword."""
        self.given: list[tuple[str, str, bool]] = []
        """Keywords at calls: of what, which, and whether that is somebody else's."""
        self.spreads = False
        """Whether something of the program is called with ``**``: words of strings are its keywords."""
        self.asks_for_text = False
        """Whether the program reads its own docstring."""
        self._classes: list[str] = []

    def visit_SimpleString(self, node):
        if re.fullmatch(r"[\w.-]+", node.raw_value):
            self.mentioned |= set(re.split(r"[.]", node.raw_value.lstrip("-").replace("-", "_")))

    def visit_ClassDef(self, node):
        self._classes.append(node.name.value)
        lines = [one for one in node.body.body if isinstance(one, cst.SimpleStatementLine)]
        typed = [part for line in lines for part in line.body if isinstance(part, cst.AnnAssign)]
        self.fields[node.name.value] = {last(one.target) for one in typed}

    def leave_ClassDef(self, original_node):
        self._classes.pop()

    def visit_FunctionDef(self, node):
        name = node.name.value
        if name == "__init__" and self._classes:
            name = self._classes[-1]
        given = (*node.params.params, *node.params.kwonly_params)
        self.takes.setdefault(name, set()).update(one.name.value for one in given)

    def visit_Attribute(self, node):
        stored = self.get_metadata(md.ExpressionContextProvider, node, None)
        if stored is md.ExpressionContext.STORE and not others(self._scope(node), node.value):
            self.attributes.add(node.attr.value)

    def visit_Name(self, node):
        self.asks_for_text |= node.value == "__doc__"
        scope = self._scope(node)
        if isinstance(scope, md.ClassScope) and any(
            one.scope is scope for one in scope[node.value]
        ):
            self.attributes.add(node.value)

    def visit_Call(self, node):
        theirs = others(self._scope(node), node.func) and last(node.func) not in PASSED_ON
        for one in node.args:
            self.spreads |= one.star == "**" and not theirs
            if one.keyword is not None:
                self.given.append((last(node.func), one.keyword.value, theirs))

    def _scope(self, node):
        return self.get_metadata(md.ScopeProvider, node, None)

    def unseen(self) -> set[str]:
        """Keywords of calls that may reach a function of the program, nobody can read which."""
        own = {name: self.takes.get(name, set()) | self.fields.get(name, set())
               for name in (*self.takes, *self.fields)}  # fmt: skip
        return {
            word
            for name, word, theirs in self.given
            if not theirs and word not in own.get(name, ())
        }


class Renamer(cst.CSTTransformer):
    """Exchanges names, takes comments and docstrings out, and leaves every line where it is."""

    METADATA_DEPENDENCIES = (md.ScopeProvider,)

    def __init__(self, census: Census):
        super().__init__()
        self.census = census
        self.new: dict[str, str] = {}
        self.kept = census.unseen() | (census.mentioned if census.spreads else set())
        theirs = {word for _, word, theirs in census.given if theirs}
        self.attributes = census.attributes - self.kept - theirs - census.mentioned - of_libraries()

    def exchange(self, node: cst.Name) -> cst.Name:
        """The name in its other words, the same wherever it stands."""
        return node.with_changes(value=self.new.setdefault(node.value, f"q{len(self.new)}_"))

    def renames(self, scope: md.Scope | None, name: str) -> bool:
        """Whether what a name means in a scope was bound by the program and may be called otherwise."""
        found = scope[name] if scope is not None and not name.startswith("__") else ()
        if not found or any(isinstance(one, NOT_OWN) for one in found):
            return False
        if any(isinstance(one.scope, md.ClassScope) for one in found):
            return name in self.attributes
        return name not in self.kept or not any(isinstance(one.node, cst.Param) for one in found)

    def leave_Name(self, original_node, updated_node):
        scope = self.get_metadata(md.ScopeProvider, original_node, None)
        mine = self.renames(scope, original_node.value)
        return self.exchange(updated_node) if mine else updated_node

    def visit_ImportFrom(self, node):
        return False  # a module's path is no attribute of the program: torch.nn.utils.rnn

    def leave_Attribute(self, original_node, updated_node):
        scope = self.get_metadata(md.ScopeProvider, original_node, None)
        name = original_node.attr.value
        if name not in self.attributes or others(scope, original_node.value):
            return updated_node
        return updated_node.with_changes(attr=self.exchange(original_node.attr))

    def leave_Call(self, original_node, updated_node):
        callee = last(original_node.func)
        changed = self.attributes & self.census.fields.get(callee, set())
        changed |= self.census.takes.get(callee, set()) - self.kept
        words = [
            one.with_changes(keyword=self.exchange(one.keyword))
            if one.keyword is not None and one.keyword.value in changed
            else one
            for one in updated_node.args
        ]
        return updated_node.with_changes(args=words)

    def leave_Global(self, original_node, updated_node):
        return self.declared(original_node, updated_node)

    def leave_Nonlocal(self, original_node, updated_node):
        return self.declared(original_node, updated_node)

    def declared(self, original_node, updated_node):
        """``global`` and ``nonlocal`` with the other names."""
        scope = self.get_metadata(md.ScopeProvider, original_node, None)
        names = [
            one.with_changes(name=self.exchange(one.name))
            if self.renames(scope, one.name.value)
            else one
            for one in updated_node.names
        ]
        return updated_node.with_changes(names=names)

    def leave_Expr(self, original_node, updated_node):
        value = updated_node.value
        if not isinstance(value, cst.SimpleString) or self.census.asks_for_text:
            return updated_node
        blank = '"""' + "\n" * value.value.count("\n") + '"""'
        return updated_node.with_changes(value=cst.SimpleString(blank))

    def leave_TrailingWhitespace(self, original_node, updated_node):
        return updated_node.with_changes(comment=None)

    def leave_EmptyLine(self, original_node, updated_node):
        return updated_node.with_changes(comment=None)


def renamed(text: str) -> tuple[str, dict[str, str]]:
    """The program in other words, and which names were exchanged."""
    wrapper = md.MetadataWrapper(cst.parse_module(text))
    census = Census()
    wrapper.visit(census)
    renamer = Renamer(census)
    return wrapper.visit(renamer).code, renamer.new
