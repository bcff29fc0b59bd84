"""``sys.argv`` while loads are under way: empty for each of them, and for everybody else what it is."""

from collections.abc import Callable
from typing import Any

from hublock.runtime.strict.callers import current
from hublock.runtime.strict.made import importing


class Arguments(list[str]):
    """Many lists in one: whoever asks for anything gets it of theirs."""

    def __init__(self, users: list[str]) -> None:
        """Show ``users`` to all code but that of loads."""
        # what C code looks into
        super().__init__(users)
        self._users = users

    def asked(self) -> list[str]:
        """Return the list of whoever calls."""
        own = current()
        return self._users if own is None else own.argv

    def note(self) -> None:
        """Take note of the list of a load that the import of a module has changed."""
        own = current()
        made = importing() if own is not None else None
        if own is not None and made is not None:
            made.argv = list(own.argv)

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:
        """Be a plain list to a process that is told of it."""
        return list, ([*self.asked()],)


def _of_theirs(name: str) -> Callable[..., Any]:
    def method(arguments: Arguments, *args: Any, **options: Any) -> Any:
        result = getattr(arguments.asked(), name)(*args, **options)
        if name in _THAT_CHANGE:
            arguments.note()
        return result

    return method


_THAT_CHANGE = {
    "__delitem__", "__iadd__", "__imul__", "__setitem__", "append", "clear", "extend", "insert", "pop", "remove",
    "reverse", "sort",
}  # fmt: skip


for _name in {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__repr__", *vars(list)} - {
    "__class_getitem__", "__doc__", "__getattribute__", "__hash__", "__init__", "__new__",
}:  # fmt: skip
    setattr(Arguments, _name, _of_theirs(_name))
