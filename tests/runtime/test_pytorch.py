import subprocess
import sys
from pathlib import Path

import pytest

FRESH = """
import gc, sys
from hublock.runtime.strict.pytorch import torch_hub
before = gc.get_stats()[0]["collections"]
assert torch_hub() is sys.modules["torch.hub"]
print(gc.get_stats()[0]["collections"] - before < 20, gc.isenabled(), gc.get_freeze_count() > 100_000)
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


WRITERS = {
    "a class of the script": """
class Log:
    pass
torch_hub()
Log.file = open(path, "w")
Log.file.write("the last line")
""",
    "a class of a module": """
from mine import Log
torch_hub()
Log.file = open(path, "w")
Log.file.write("the last line")
""",
    "a class in a function": """
def make():
    class Log: pass
    return Log
log = make()
torch_hub()
log.file = open(path, "w")
log.file.write("the last line")
""",
    "a function that calls itself": """
def make():
    kept = []
    def log(text, again):
        if again:
            return log(text, again - 1)
        kept.append(open(path, "w"))
        kept[0].write(text)
    return log
log = make()
torch_hub()
log("the last line", 2)
""",
    "a list that holds itself": """
kept = [open(path, "w")]
kept.append(kept)
torch_hub()
kept[0].write("the last line")
""",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_the_users_own_code_holds_is_found_and_written_as_the_process_ends(tmp_path: Path, writer: str) -> None:
    log, script = tmp_path / "log.txt", tmp_path / "script.py"
    (tmp_path / "mine.py").write_text("class Log:\n    pass\n")
    script.write_text(f"from hublock.runtime.strict.pytorch import torch_hub\npath = {str(log)!r}\n{WRITERS[writer]}\n")

    subprocess.run([sys.executable, "-W", "ignore", script], check=True)

    assert log.read_text() == "the last line"


def _printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
