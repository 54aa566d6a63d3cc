"""Callbacks as a Protocol: subclasses, or objects that have its methods."""

import ast
import inspect

from eval.api.callbacks import Callbacks
from pfedmoap import Callback

RECORD = {"round": 3, "evaluation": {"mean": 0.5}}


def test_methods_that_are_not_replaced_do_nothing():
    told = Callbacks([Callback.__new__(type("Silent", (Callback,), {}))])
    told.begin({})
    told.round(RECORD, 4)
    told.end()


def test_type_checkers_do_not_take_its_methods_to_be_abstract():
    """Mypy does so with a Protocol's method that has only a docstring, and refuses a subclass."""
    body = ast.parse(inspect.getsource(Callback)).body[0].body  # type: ignore[attr-defined]
    methods = [node for node in body if isinstance(node, ast.FunctionDef)]
    assert len(methods) == 3
    assert all(isinstance(method.body[-1], ast.Return) for method in methods)


def test_an_object_needs_no_base_class_and_order_is_kept():
    heard: list = []

    class Plain:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_begin(self, privacy):
            heard.append((self.name, privacy))

        def on_round_end(self, report):
            heard.append((self.name, report.round, report.rounds, report.metrics["mean"]))

        def on_train_end(self, report):
            heard.append((self.name, report.record))

    told = Callbacks([Plain("a"), Plain("b")])
    told.begin({"unit": "example"})
    told.round(RECORD, 4)
    told.end()
    assert heard == [
        *(("a", {"unit": "example"}), ("b", {"unit": "example"})),
        *(("a", 3, 4, 0.5), ("b", 3, 4, 0.5)),
        *(("a", RECORD), ("b", RECORD)),
    ]
