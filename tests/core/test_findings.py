"""Exit codes."""

import itertools

import pytest

from hublock import errors
from hublock.core.findings import exit_code


def test_of_several_codes_the_gravest_wins() -> None:
    assert exit_code([]) == 0
    for first, second in itertools.combinations(errors.SEVERITY, 2):
        assert exit_code([second, first]) == first


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HublockError)]
)
def test_every_error_has_the_exit_code_its_docstring_tree_draws(kind: type[errors.HublockError]) -> None:
    assert errors.__doc__ is not None
    row = next(line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in f"{line} ".replace("── ", "  "))

    assert row.split()[-1] == str(kind.exit_code)
