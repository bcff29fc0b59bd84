import gc
import subprocess
import sys

from hublock.runtime.strict.pytorch import torch_hub

FRESH = """
import gc, sys
from hublock.runtime.strict.pytorch import torch_hub
before = gc.get_stats()[0]["collections"]
assert torch_hub() is sys.modules["torch.hub"]
print(gc.get_stats()[0]["collections"] - before < 3, gc.isenabled(), gc.get_freeze_count())
print(len(gc.get_objects(generation=2)) > 100_000 > len(gc.get_objects(generation=0)))
"""


def test_torch_is_imported_without_a_search_for_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)

    assert done.stdout == "True True 0\nTrue\n"


def test_the_collector_is_left_as_it_was() -> None:
    gc.disable()
    try:
        torch_hub()
        assert not gc.isenabled()
    finally:
        gc.enable()
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        torch_hub()
        assert gc.get_freeze_count() == frozen
        assert gc.isenabled()
    finally:
        gc.unfreeze()
