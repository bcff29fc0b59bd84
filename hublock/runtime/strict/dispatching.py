"""Who answers a call of an exchanged function: a scope, whom the program asked to answer its own, or the original."""

from collections.abc import Callable, Mapping
from typing import Any

from hublock.runtime.strict.callers import current
from hublock.runtime.strict.swap import Function


class Answering:
    """Functions that answer the user's own calls, by their names, from ``begin`` until ``end``."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        """Answer with ``functions``."""
        self.functions = functions

    def begin(self) -> None:
        """Answer the calls of the whole process that are in no scope, before all that answer already."""
        _answering.append(self)

    def end(self) -> None:
        """Leave them to the one that began last of those that have not ended: tasks and threads overlap."""
        _answering.remove(self)


_answering: list[Answering] = []
"""Who answers the user's own calls, the newest last; empty until a program asks for it."""


def dispatching(answer: Function, *, name: str | None = None) -> Callable[[Function], Function]:
    """Make a decision for ``swap``: inside a scope ``answer(scope, original, …)``, else the original.

    With a ``name``, the user's own calls can be answered too, see ``Answering``.
    """

    def decide(original: Function) -> Function:
        def dispatch(*args: Any, **kwargs: Any) -> Any:
            scope = current()
            if scope is not None:
                return answer(scope, original, *args, **kwargs)
            # a slice: another thread may end the last one meanwhile
            instead = [newest.functions.get(name) for newest in _answering[-1:]] if name is not None else []
            return next(filter(None, instead), original)(*args, **kwargs)

        return dispatch

    return decide
