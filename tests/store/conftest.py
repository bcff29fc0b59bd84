"""What tests of the store begin with."""

import pytest

from hublock.net import parts, transfer


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what this process sets to fetch as the killed ones do."""
    for module, name in ((transfer, "WORTH_FACTS"), (transfer, "WORTH_PARTS"), (parts, "SMALLEST"), (parts, "LARGEST")):
        monkeypatch.setattr(module, name, getattr(module, name))
