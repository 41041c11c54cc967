"""Mutation: whether a touch of a statement mutates a value, given what defines its names.

The notebook's own functions and classes are analysed; others are known by name (`_export/known.py`), or may mutate
anything.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from nbcompose._export import known
from nbcompose._export.binding import DEFINITIONS, FUNCTIONS, IMPORTS, StatementNames
from nbcompose._export.effects import LAMBDA, Held, Touch, called, global_name
from nbcompose._export.names import names_of
from nbcompose._export.naming import bindings
from nbcompose._export.statements import Statement, is_constant
from nbcompose._export.values import END

Find = Callable[[str, int], list[int]]  # a name, before a statement → the statements that define it
_Seen = frozenset[tuple[int, str]]


class Altering:
    """Decides which touches are mutations.

    `find` returns the statements that define a name; `is_service` recognizes services, whose apis mutate nothing here;
    `frozen`: names whose present values are stored: mutations of these affect nothing else.
    """

    def __init__(
        self, statements: Sequence[Statement], find: Find, is_service: Callable[[int], bool], frozen: Collection[str]
    ) -> None:
        self._statements = statements
        self._find = find
        self._is_service = is_service
        self._frozen = frozen
        self._methods: dict[int, dict[str, StatementNames]] = {}
        self._classes: dict[str, list[int]] = {}  # a method → the notebook's classes that have it
        # an attribute → the functions or classes that make its values in the notebook's classes
        self._attributes: dict[str, list[str]] = {}

    def add(self, index: int) -> None:
        """Add a statement of the notebook."""
        node = self._statements[index].node
        if isinstance(node, ast.ClassDef):
            self._methods[index] = {s.name: names_of(s) for s in node.body if isinstance(s, FUNCTIONS)}
            for method in self._methods[index]:
                self._classes.setdefault(method, []).append(index)
            for attribute, made_by in _attributes(node):
                self._attributes.setdefault(attribute, []).append(self.origin(made_by, index))

    def counts(self, touch: Touch, index: int, by: StatementNames) -> bool:
        """Whether a touch may mutate the value of its name when the statement `index` runs. `by`: the names that
        contain it, of the statement or of a function that it calls.
        """
        if touch.by == LAMBDA:
            if not self._alters(by, index, frozenset()):
                return False
            touch = replace(touch, by="")
        return self._counts(touch, index, frozenset())

    def hands(self, held: Held, index: int) -> bool:
        """Whether a value is related to that of a name, after the functions through which it was passed."""
        makers = self._find(held.name, index)
        if held.via and any(isinstance(self._statements[i].node, (*IMPORTS, *DEFINITIONS)) for i in makers):
            return any(i in self._methods for i in makers) and held.via == (held.name,)  # what instances share
        return all(self._lets_through(by, index) for by in held.via)

    def is_value(self, name: str, index: int) -> bool:
        """Whether a name is bound to something else than a function, a class, or an import."""
        return not any(isinstance(self._statements[i].node, (*IMPORTS, *DEFINITIONS)) for i in self._find(name, index))

    def is_frozen(self, name: str, index: int) -> bool:
        """Whether the value of a name is immutable."""
        makers = self._find(name, index)
        return bool(makers) and all(self._makes_frozen(i) for i in makers)

    def differs_again(self, touch: Touch, index: int) -> bool:
        """Whether doing it twice has another effect than doing it once; functions of the notebook are analysed."""
        if touch.how == "argument" and (functions := self._functions(touch.by, index)):
            return any(self._differs(names, index, frozenset()) for names in functions)
        return touch.again

    def by_class(self, index: int) -> list[Touch]:
        """Return what the creation of a class mutates: its bases, where they have
        `__init_subclass__` or a metaclass.
        """
        node = self._statements[index].node
        if not isinstance(node, ast.ClassDef):
            return []
        makers = {b.id: self._find(b.id, index) for b in node.bases if isinstance(b, ast.Name)}
        return [
            Touch(name, "item", "again")
            for name, indexes in makers.items()
            if any(
                self._alters(m, index, frozenset()) for i in indexes for m in self._methods_of(i, "__init_subclass__")
            )
        ]

    # -- touches

    def _counts(self, touch: Touch, index: int, seen: _Seen) -> bool:
        if not all(self._lets_through(by, index) for by in touch.via):
            return False
        makers = self._find(touch.name, index)
        if any(self._is_service(i) for i in makers):
            return False
        if touch.how == "argument" and self._leaves(touch.by, index, seen):
            return False
        if not makers:
            return touch.how != "call" and touch.name not in known.BUILTINS
        nodes = [self._statements[i].node for i in makers]
        if all(isinstance(node, IMPORTS) for node in nodes):
            return self._alters_module(touch, index)
        if all(isinstance(node, DEFINITIONS) for node in nodes):
            return self._alters_definition(touch, index, makers, seen)
        if touch.how != "augment" and self.is_frozen(touch.name, index):
            return False
        match touch.how:
            case "method":
                return self._method_alters(touch, index, makers, seen)
            case "call":
                return self._call_alters(index, makers, seen)
            case "iterated":
                return any(self._is_iterator(i) for i in makers)
        return True

    def _alters_module(self, touch: Touch, index: int) -> bool:
        if touch.how == "argument":
            return touch.by in ("setattr", "delattr") or bool(self._functions(touch.by, index))
        return touch.sets_module

    def _alters_definition(self, touch: Touch, index: int, makers: list[int], seen: _Seen) -> bool:
        """Whether a function or a class is mutated: a library that calls it leaves it unchanged."""
        match touch.how:
            case "item" | "augment":
                return True
            case "call":  # the defaults of its parameters
                own = [self._statements[i].names for i in makers if isinstance(self._statements[i].node, FUNCTIONS)]
                return any(names.aliases and self._alters(names, index, seen) for names in own)
            case "argument":
                last = touch.by.rpartition(".")[2]
                sets = last in ("setattr", "delattr", "update_wrapper") or known.is_setting(last)
                return sets or bool(self._functions(touch.by, index))
            case "method" if touch.by in ("__enter__", "__exit__"):
                return False
            case "method":
                methods = [m for i in makers for m in self._methods_of(i, touch.by)]
                if methods:
                    return any(self._alters(m, index, seen) for m in methods)
                return not known.looks(touch.by) and (touch.deep or known.is_setting(touch.by))
        return False

    def _method_alters(self, touch: Touch, index: int, makers: list[int], seen: _Seen) -> bool:
        own = [self._methods_of(c, touch.by) for i in makers for c in self._classes_made(i)]
        if own and all(own) and len(own) == len(makers):
            return any(self._alters(m, index, seen) for methods in own for m in methods)
        if touch.by in known.CONTAINER:
            return True
        if touch.by in ("__enter__", "__exit__") and not touch.deep and touch.by not in self._classes:
            return touch.by == "__exit__"
        of_others = [m for c in self._classes.get(touch.by, ()) for m in self._methods_of(c, touch.by)]
        if of_others:
            return any(self._alters(m, index, seen) for m in of_others)
        return not (self._is_layer(touch.by) or known.looks(touch.by))

    def _is_layer(self, attribute: str) -> bool:
        """Whether an attribute of the notebook's classes holds something that a call leaves
        unchanged: `self.layer(x)`.
        """
        made_by = self._attributes.get(attribute, ())
        return bool(made_by) and all(map(known.can_be_called, made_by))

    def _call_alters(self, index: int, makers: list[int], seen: _Seen) -> bool:
        for maker in makers:
            node = self._statements[maker].node
            classes = self._classes_made(maker)
            methods = [m for c in classes for m in self._methods_of(c, "__call__") or self._methods_of(c, "forward")]
            if methods and not any(self._alters(m, index, seen) for m in methods):
                continue
            value = getattr(node, "value", None)
            if isinstance(value, ast.Lambda):
                continue  # its effects on globals are other touches
            if isinstance(value, ast.Call) and known.can_be_called(self.origin(called(value.func), maker)):
                continue
            return True
        return False

    # -- functions

    def _leaves(self, by: str, index: int, seen: _Seen) -> bool:
        """Whether a function leaves its arguments unchanged."""
        if functions := self._functions(by, index):
            return not any(self._alters(names, index, seen) for names in functions)
        first, _, rest = by.partition(".")
        method = by.rpartition(".")[2]
        makers = self._find(first, index) if first else []
        if any(self._is_service(i) for i in makers):
            return True
        if makers and all(isinstance(self._statements[i].node, IMPORTS) for i in makers):
            origin = self.origin(by, index)
            return origin.startswith("nbcompose.") or known.module_leaves(origin) or first in known.ONLOOKERS
        if first and not makers:
            return known.builtin_leaves(by) or first in known.ONLOOKERS
        if not rest:
            return bool(makers) and not self._call_alters(index, makers, seen)
        if first in known.ONLOOKERS:
            return True
        if by in self._frozen or first in self._frozen:
            return True
        if of_notebook := [m for c in self._classes.get(method, ()) for m in self._methods_of(c, method)]:
            return not any(self._alters(m, index, seen) for m in of_notebook)
        return self._is_layer(method) or known.looks(method) or method in known.CONTAINER | known.TRAINS | known.MOVES

    def _functions(self, by: str, index: int) -> list[StatementNames]:
        """Return the notebook's own functions that a call runs; for a class, its `__init__` and the like."""
        first, _, method = by.partition(".")
        found: list[StatementNames] = []
        for maker in self._find(first, index) if first else ():
            node = self._statements[maker].node
            if not method and (isinstance(node, FUNCTIONS) or isinstance(getattr(node, "value", None), ast.Lambda)):
                found.append(self._statements[maker].names)
            elif isinstance(node, ast.ClassDef) and not self._is_service(maker):
                names = [method] if method else ["__init__", "__new__", "__post_init__"]
                found += [m for name in names for m in self._methods_of(maker, name)]
            elif method and "." not in method:
                found += [m for c in self._classes_made(maker) for m in self._methods_of(c, method)]
        return found

    def _alters(self, function: StatementNames, index: int, seen: _Seen) -> bool:
        """Whether a function, or one that it passes its arguments to, mutates its arguments."""
        if (id(function), "alters") in seen:
            return False
        deeper = seen | {(id(function), "alters")}
        return any(self._alters_argument(t, index, deeper) for t in function.arguments)

    def _alters_argument(self, touch: Touch, index: int, seen: _Seen) -> bool:
        """Whether one touch of an argument is a mutation; nothing is known of the argument."""
        if touch.by == LAMBDA:
            return False  # what it does to its own arguments is among these touches
        if not all(self._lets_through(by, index) for by in touch.via):
            return False
        match touch.how:
            case "argument":
                return not self._leaves(touch.by, index, seen)
            case "method":
                return self._method_alters(touch, index, [], seen)
            case "iterated":
                return False
        return True

    def _differs(self, function: StatementNames, index: int, seen: _Seen) -> bool:
        if (id(function), "again") in seen:
            return False
        deeper = seen | {(id(function), "again")}
        touches = [t for t in function.arguments if self._alters_argument(t, index, frozenset())]
        for touch in touches:
            functions = self._functions(touch.by, index) if touch.how == "argument" else []
            if any(self._differs(f, index, deeper) for f in functions) or (not functions and touch.again):
                return True
        return False

    def _hands_back(self, function: int, seen: _Seen) -> bool:
        if (function, "hands") in seen:
            return False
        deeper = seen | {(function, "hands")}
        ways = self._statements[function].names.hands_back
        return any(all(self._lets_through(by, END, deeper) for by in via) for via in ways)

    def _lets_through(self, by: str, index: int, seen: _Seen = frozenset()) -> bool:
        """Whether the result of a function may be, or hold, one of its arguments."""
        first, _, method = by.partition(".")
        makers = self._find(first, index) if first else []
        nodes = [self._statements[i].node for i in makers]
        if any(self._is_service(i) for i in makers):
            return False
        if makers and not method and all(isinstance(node, FUNCTIONS) for node in nodes):
            return any(node.decorator_list or self._hands_back(i, seen)
                       for i, node in zip(makers, nodes, strict=True) if isinstance(node, FUNCTIONS))  # fmt: skip
        if makers and all(isinstance(node, IMPORTS) for node in nodes):
            origin = self.origin(by, index)
            return not (known.module_gives_new(origin) or known.gives_frozen(origin))
        if first and not makers:
            return not known.builtin_gives_new(by)
        last = by.rpartition(".")[2]
        return not (known.method_gives_new(last) and last not in self._classes)

    # -- what a statement makes

    def origin(self, by: str, index: int) -> str:
        """Return the full name of an imported one: "numpy.mean" for `np.mean`."""
        first, dot, rest = by.partition(".")
        for maker in self._find(first, index) if first else ():
            for name, origin in bindings(self._statements[maker].node):
                if name == first:
                    return f"{origin}{dot}{rest}"
        return ""

    def _classes_made(self, index: int) -> list[int]:
        """Return the notebook's class of which a statement makes an object: `x = K(...)`."""
        value = getattr(self._statements[index].node, "value", None)
        if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name)):
            return []
        return [i for i in self._find(value.func.id, index) if i in self._methods and not self._is_service(i)]

    def _methods_of(self, cls: int, method: str, depth: int = 8) -> list[StatementNames]:
        """Return a method of a class of the notebook, its own or that of a base in the notebook."""
        own = self._methods.get(cls, {})
        if method in own:
            return [own[method]]
        node = self._statements[cls].node
        bases = [b.id for b in getattr(node, "bases", ()) if isinstance(b, ast.Name)]
        makers = [i for name in bases for i in self._find(name, cls) if depth]
        return [m for i in makers for m in self._methods_of(i, method, depth - 1)]

    def _is_iterator(self, index: int) -> bool:
        value = getattr(self._statements[index].node, "value", None)
        if isinstance(value, ast.GeneratorExp):
            return True
        if not isinstance(value, ast.Call):
            return False
        by = called(value.func)
        functions = [i for i in self._find(by, index) if isinstance(self._statements[i].node, FUNCTIONS)] if by else []
        if functions:
            return any(self._statements[i].names.yields for i in functions)
        return by.rpartition(".")[2] in known.ITERATORS or self.origin(by, index).startswith("itertools.")

    def _makes_frozen(self, index: int) -> bool:
        node = self._statements[index].node
        if isinstance(node, ast.AugAssign):
            return self._is_frozen_value(node.value, index)
        return is_constant(node) or (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and node.value is not None
            and self._is_frozen_value(node.value, index)
        )

    def _is_frozen_value(self, value: ast.expr, index: int) -> bool:
        if name := global_name(value):
            return self.is_frozen(name, index)
        match value:
            case ast.Constant() | ast.JoinedStr():
                return True
            case ast.Name(id=name):
                return self.is_frozen(name, index)
            case ast.Tuple(elts=parts) | ast.BoolOp(values=parts):
                return all(self._is_frozen_value(part, index) for part in parts)
            case ast.UnaryOp(operand=part) | ast.NamedExpr(value=part):
                return self._is_frozen_value(part, index)
            case ast.BinOp(left=one, right=other) | ast.IfExp(body=one, orelse=other):
                return self._is_frozen_value(one, index) and self._is_frozen_value(other, index)
            case ast.Call(func=ast.Name(id=name)) if not self._find(name, index):
                return name in known.FROZEN
            case ast.Call(func=ast.Attribute(value=owner, attr=method)) if self._is_frozen_value(owner, index):
                return method in known.FROZEN_METHODS
            case ast.Call(func=function):
                return known.gives_frozen(self.origin(called(function), index))
            case ast.Attribute():
                return self.origin(called(value), index).startswith(("torch.float", "torch.int", "torch.bfloat"))
        return False


def _attributes(cls: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the attributes that methods set on `self`, with the function or class that makes the value; "" for anything
    else.
    """
    for node in (n for n in ast.walk(cls) if isinstance(n, ast.Assign)):
        for target in node.targets:
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                yield target.attr, called(node.value.func) if isinstance(node.value, ast.Call) else ""
