import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hublock.store.mutex import mutex

ROOT = Path(__file__).parents[2]
HOLDER = """
import os, sys, time
from pathlib import Path
from hublock.store.mutex import mutex
with mutex(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

FORKING = HOLDER.replace("    time", "    if child := os.fork(): print(child, flush=True)\n    time")


def hold(path: Path, code: str = HOLDER) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_one_holder_at_a_time_across_threads(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with mutex(tmp_path / "m.lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.001)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "m.lock"
    holder = hold(path)
    waits = []

    def on_wait() -> None:
        waits.append(time.monotonic())
        holder.kill()

    with mutex(path, on_wait=on_wait):
        assert len(waits) >= 1
        assert time.monotonic() - waits[0] < 5
    holder.communicate()


def test_a_forked_child_does_not_hold_on_to_the_lock_of_a_killed_parent(tmp_path: Path) -> None:
    path = tmp_path / "m.lock"
    # the parent tells its child's number, and is killed
    holder = hold(path, FORKING)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    try:
        began = time.monotonic()

        def on_wait() -> None:
            # a busy machine may not have come to run the child at all yet
            assert time.monotonic() - began < 20, "the child holds it"

        with mutex(path, on_wait=on_wait):
            os.kill(child, 0)
    finally:
        os.kill(child, 9)
        holder.communicate()


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "m.lock").symlink_to(tmp_path / "elsewhere")
    done = False
    with mutex(tmp_path / "m.lock"):
        done = True
    assert done
    assert not (tmp_path / "elsewhere").exists()


def test_who_waits_may_give_up(tmp_path: Path) -> None:
    path = tmp_path / "m.lock"
    holder = hold(path)

    def on_wait() -> None:
        raise TimeoutError("no more patience")

    with pytest.raises(TimeoutError, match="no more patience"), mutex(path, on_wait=on_wait):
        pass
    holder.kill()
    holder.communicate()


def test_says_nothing_when_nobody_holds_it(tmp_path: Path) -> None:
    def on_wait() -> None:
        raise AssertionError("nobody holds it")

    with mutex(tmp_path / "new" / "m.lock", on_wait=on_wait):
        pass
    with mutex(tmp_path / "new" / "m.lock", on_wait=on_wait):
        pass


def test_goes_on_where_the_file_system_cannot_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def no_locks(handle: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    done = False
    with mutex(tmp_path / "m.lock"):
        done = True
    assert done


def test_a_child_that_is_forked_as_a_lock_is_freed_does_not_keep_it(tmp_path: Path) -> None:
    script = """
import os, sys, time
from pathlib import Path
from hublock.store import mutex as mutexes
path, close = Path(sys.argv[1]), os.close
def fork_first(handle):
    mutexes.os.close = close
    if os.fork() == 0:
        time.sleep(60)
    close(handle)
with mutexes.mutex(path):
    mutexes.os.close = fork_first
def busy():
    raise SystemExit("the child has it")
with mutexes.mutex(path, on_wait=busy):
    print("free", flush=True)
os.killpg(0, 9)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "lock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, start_new_session=True)
    assert done.stdout == "free\n", done.stderr
