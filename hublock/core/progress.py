"""Silent hooks through which the rooms below speak; a face overrides them to show bars and lines."""

from collections.abc import Callable
from typing import Self


class Task:
    """One thing that takes time, counted in bytes."""

    def advance(self, amount: int) -> None:
        """Count ``amount`` more bytes as done."""

    def grow(self, total: int) -> None:
        """Set the expected total, once it becomes known."""

    def close(self) -> None:
        """Stop showing the task, whether it ended well or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Progress:
    """What a face wants to hear; this one hears nothing.

    All methods may be called from any thread.
    """

    def task(self, label: str, total: int | None = None) -> Task:
        """Begin a task of ``total`` bytes; None when unknown."""
        del label, total
        return Task()

    def step(self, label: str) -> Task:
        """Begin something whose amount nobody can count."""
        del label
        return Task()

    def note(self, message: str) -> None:
        """Say something that a user who asked for more detail wants to read."""

    def say(self, message: str) -> None:
        """Say something that every user wants to read."""

    def saying_once(self, message: str) -> Callable[[], None]:
        """Return a call that says ``message`` the first time, for what is asked again and again while it waits."""
        left = [message]

        def say() -> None:
            while left:
                self.say(left.pop())

        return say

    def warn(self, message: str) -> None:
        """Say something that a user should act on."""
