"""A shelf of answers and a maker of small repositories that ask for things."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from hublock.runtime.repository import Repository
from hublock.runtime.strict import refusals
from tests.runtime.answering import Shelf
from tests.runtime.trees import make_repository

MakeRepository = Callable[..., Repository]

_number = itertools.count()


@pytest.fixture(autouse=True)
def forget_libraries() -> Iterator[None]:
    """Let no library keep for another test what it was refused in one."""
    yield
    refusals.by_library.clear()
    refusals.ever_given.clear()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def repository(tmp_path: Path) -> MakeRepository:
    """Make a repository from the text of its hubconf.py and other files; each has a name of its own."""

    def make(hubconf: str, files: Mapping[str, str | bytes] | None = None, *, name: str | None = None) -> Repository:
        folder = tmp_path / f"tree{next(_number)}"
        return make_repository(folder, {"hubconf.py": hubconf, **(files or {})}, identity=name)

    return make


@pytest.fixture(params=["hubconf.py", "a module"])
def either(request: pytest.FixtureRequest, repository: MakeRepository) -> MakeRepository:
    """Make repositories whose code is in hubconf.py, which may run anew for each load, or in a module, which stays."""

    def make(code: str, files: Mapping[str, str | bytes] | None = None, *, name: str | None = None) -> Repository:
        if request.param == "hubconf.py":
            return repository(code, files, name=name)
        return repository("from whole import *\n", {"whole.py": code, **(files or {})}, name=name)

    return make
