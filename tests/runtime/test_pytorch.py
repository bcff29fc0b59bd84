import subprocess
import sys
from pathlib import Path

import pytest

FRESH = """
import gc, sys
from hublock.runtime.strict.pytorch import torch_hub
before = gc.get_stats()[0]["collections"]
assert torch_hub() is sys.modules["torch.hub"]
print(gc.get_stats()[0]["collections"] - before < 3, gc.isenabled(), gc.get_freeze_count() > 100_000)
frozen = gc.get_freeze_count()
made = [[]]
torch_hub()
print(gc.get_freeze_count() == frozen)
"""


def test_torch_is_imported_without_a_search_for_garbage_and_is_no_part_of_later_ones() -> None:
    assert _printed(FRESH) == "True True True\nTrue\n"


@pytest.mark.parametrize("mine", ["gc.disable()", "gc.freeze()"])
def test_a_collector_that_the_program_has_set_is_left_as_it_is(mine: str) -> None:
    program = f"""
import gc
from hublock.runtime.strict.pytorch import torch_hub
{mine}
before = gc.isenabled(), gc.get_freeze_count() > 100_000
torch_hub()
print(before == (gc.isenabled(), gc.get_freeze_count() > 100_000))
"""
    assert _printed(program) == "True\n"


@pytest.mark.parametrize("place", ["script", "module"])
def test_what_the_users_own_classes_hold_is_found_and_written_as_the_process_ends(tmp_path: Path, place: str) -> None:
    log, script, module = tmp_path / "log.txt", tmp_path / "script.py", tmp_path / "mine.py"
    kept = "class Log:\n    pass\n"
    module.write_text(kept)
    script.write_text(f"""
{kept if place == "script" else "from mine import Log"}
from hublock.runtime.strict.pytorch import torch_hub
torch_hub()
Log.file = open({str(log)!r}, "w")
Log.file.write("the last line")
""")

    subprocess.run([sys.executable, "-W", "ignore", script], check=True)

    assert log.read_text() == "the last line"


def _printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
