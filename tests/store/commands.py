"""A whole command that the crash harness runs and kills.

``python -m tests.store.commands BROKEN ARGUMENT…``; ``BROKEN`` names what is broken on purpose, or is ``-``.
"""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import hublock.cli.main
from hublock.actions import project
from hublock.net import crew, transfer
from hublock.store import trees
from tests.store import working


class AtOnce(Executor):
    """Does everything in the thread that asks: strace counts the calls of each thread apart."""

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **options))
        except BaseException as error:
            future.set_exception(error)
        return future


def one_thread() -> None:
    for module in (crew, transfer, trees):
        vars(module)["ThreadPoolExecutor"] = AtOnce


def torn(path: Path, text: str) -> None:
    """Write a manifest or lock in place, piece by piece."""
    with path.open("wb", buffering=0) as file:
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            file.write(piece.encode())


def break_it(how: str) -> None:
    if how == "torn":
        vars(project)["replace_file"] = torn
    else:
        working.break_it(how)


def main(words: Sequence[str]) -> int:
    working.small_parts()
    one_thread()
    break_it(words[0])
    return hublock.cli.main.main(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
