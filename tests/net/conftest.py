"""What tests of downloads begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hublock.net import parts, transfer
from tests.forge import Forge
from tests.net.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Forge(tmp_path / "forge") as forge:
        yield Bench(forge, tmp_path)


@pytest.fixture
def resumable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small files be resumed, as large ones are."""
    monkeypatch.setattr(transfer, "WORTH_FACTS", 1)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch, resumable: None) -> None:
    """Fetch small files in parts, as large ones are."""
    monkeypatch.setattr(parts, "SMALLEST", 16 << 10)
    monkeypatch.setattr(parts, "LARGEST", 64 << 10)
    monkeypatch.setattr(transfer, "WORTH_PARTS", 100_000)
