"""Values that are worked out once, without a mutex."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class cached(Generic[T]):  # noqa: N801 - a decorator, named as functools.cached_property is
    """A property that is worked out when it is first asked for, and then an attribute.

    Threads that ask together may each work it out. ``functools.cached_property`` takes a lock in Python 3.11, for all
    instances: in a child forked while another thread held it, every reader would wait for good.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        """Work it out with ``compute``."""
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> T:
        # an attribute of the same name is found before this: only data descriptors come first
        value = self._compute(instance)
        vars(instance)[self._name] = value
        return value
