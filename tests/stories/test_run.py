"""Scripts that know nothing of hublock."""

import os
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.forge import Forge
from tests.stories.conftest import Done, Run

OLD = """\
import importlib.util, sys
assert importlib.util.find_spec("torch") is not None
assert "torch" not in sys.modules
from torch.hub import load
import multiprocessing, pickle, subprocess, torch

def module_of(name):
    return type(torch.hub.load("someone/net:v1", name, pretrained=True)).__module__.split("_")[0]

if __name__ == "__main__":
    print(type(load("someone/net:v1", "net", pretrained=True, trust_repo=True)).__name__, sys.argv[1:])
    print(torch.hub.list("someone/net:v1"), torch.hub.help("someone/net:v1", "net").splitlines()[0])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(module_of, ["net"]))
    words = "import torch; print(type(torch.hub.load('someone/net:v1', 'net', pretrained=True)).__name__)"
    print(subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.strip())
    try:
        torch.hub.load(".", "net", source="local")
    except Exception as error:
        print(type(error).__name__, error.hint)
    sys.exit(7)
"""


def test_an_unmodified_script_is_answered_from_the_lock_in_every_python_it_starts(
    added: Done, run: Run, project: Path
) -> None:
    (project / "old.py").write_text(OLD)

    done = run("run", "old.py", "--epochs", "3", HUBLOCK_MIRRORS="")

    assert str(done) == (
        "exit 7\n--- stdout\n"
        "Net ['--epochs', '3']\n"
        "['Net', 'net'] A small network.\n"
        "['hublock.repos.someone']\n"
        "Net\n"
        "NotLocked hublock run --allow-local, or hublock.activate(allow_local=True)\n"
        "--- stderr\n"
    )


def test_what_hublock_stops_is_told_from_what_the_script_returns(added: Done, run: Run, project: Path) -> None:
    (project / "unlocked.py").write_text("import torch\ntorch.hub.load('someone/other', 'net')\n")
    stopped = run("run", "unlocked.py")
    assert stopped.code == 124
    assert stopped.err.endswith(
        "NotLocked: <project>/hub.lock does not lock someone/other; did you mean someone/net:v1?\n"
        "  hint: hublock add someone/other ENTRYPOINT\n"
    )

    (project / "fails.py").write_text("raise RuntimeError('mine')\n")
    assert run("run", "fails.py").code == 1
    own = "import hublock, sys\nsys.excepthook = lambda *error: print('oops')\n"
    (project / "hook.py").write_text(f"{own}hublock.list('someone/other')\n")
    hooked = run("run", "hook.py")
    assert (hooked.code, hooked.out) == (124, "oops\n")
    (project / "caught.py").write_text(f"""{own}
def test():
    hublock.list("someone/other")
try:
    test()
except hublock.HublockError as error:
    sys.last_value, sys.last_traceback = error, error.__traceback__.tb_next
sys.exit(1)
""")
    assert run("run", "caught.py").code == 1
    (project / "package").mkdir()
    (project / "package" / "__main__.py").write_text("import sys\nprint(sys.argv[1:])\n")
    assert run("run", "-m", "package", "-x").out == "['-x']\n"
    assert run("run", "-m", "package", "").out == "['']\n"
    assert run("run").err.startswith("error: which script should run?\n")


TRIES = """\
import sys
for _ in range(2):
    try:
        import torch
    except RuntimeError as error:
        said = str(error).splitlines()[0].partition(": ")[0]
        print(type(error).__name__, said.removeprefix(sys.executable), flush=True)
"""


def test_a_python_that_has_no_hublock_answers_all_the_same_and_one_that_cannot_has_no_torch(
    pinned: Forge, run: Run, project: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    for name in ("torch", "packaging"):
        (project / name).mkdir()
        (project / name / "__init__.py").touch()
    (project / "tries.py").write_text(TRIES)
    (project / "both.py").write_text(f"""\
import subprocess, sys
subprocess.run([{str(tmp_path / "other" / "bin" / "python")!r}, "tries.py"], check=True)
sys.modules["hublock.hub"] = None
{TRIES}""")

    done = run("run", "both.py")

    assert done.out == (
        # of hublock, which looks for torch.hub
        "MissingDependency torch cannot be imported\n" * 2
        + "MissingDependency  cannot answer torch.hub from the lock\n" * 2
    ), done


@pytest.mark.parametrize(
    ("words", "missing"), [(("run",), "packaging"), (("lock", "--", "python"), "tomlkit")], ids=["run", "lock"]
)
def test_a_python_that_lacks_what_hublock_needs_has_no_torch_either(
    pinned: Forge, run: Run, project: Path, words: tuple[str, ...], missing: str
) -> None:
    (project / "torch").mkdir()
    (project / "torch" / "__init__.py").touch()
    (project / "lacks.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\nimport torch\n")

    done = run(*words, "lacks.py")

    assert done.code == 126
    assert f"cannot answer torch.hub from the lock: No module named '{missing}'\n" in done.err
    assert done.err.endswith(" -m pip install hublock\n")


def test_a_sitecustomize_that_is_hidden_runs_all_the_same(added: Done, run: Run, project: Path) -> None:
    (project / "site").mkdir()
    (project / "site" / "sitecustomize.py").write_text("import builtins\nbuiltins.seen = True\n")
    (project / "see.py").write_text(
        "import sitecustomize\nprint(seen, sitecustomize.__file__.endswith('site/sitecustomize.py'))\n"
    )

    assert run("run", "see.py", PYTHONPATH=str(project / "site")).out == "True True\n"


def test_a_program_may_activate_the_lock_and_prove_what_it_loaded(added: Done, python: Run) -> None:
    done = python("""\
import hublock, os, subprocess, sys, torch
with hublock.activated():
    model = torch.hub.load("someone/net:v1", "net", pretrained=True)
print(type(model).__name__)
hublock.load("net", verify="state")
hublock.load("someone/net:v1", "net", pretrained=True, verify="state")
for call in ({"width": 4}, {"pretrained": True, "width": 4}):
    for name in (["someone/net:v1", "net"], ["net"]):
        try:
            hublock.load(*name, verify="state", **call)
        except hublock.HublockError as error:
            print(type(error).__name__)
hublock.load("net", pretrained=True, verify="state")
def of_a_child():
    words = "import torch; print(type(torch.hub.load('someone/net:v1', 'net', pretrained=True)).__name__)"
    return subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.strip()
before = dict(os.environ)
with hublock.activated():
    print(of_a_child())
assert dict(os.environ) == before
with hublock.activated():
    # stays when the block ends
    hublock.activate()
print(of_a_child())
try:
    torch.hub.load("someone/other", "net")
except hublock.HublockError as error:
    print(type(error).__name__)
""")

    assert done.out == "Net\n" + "NotLocked\n" * 4 + "Net\nNet\nNotLocked\n", done


def test_code_that_no_load_of_this_process_brought_is_answered_from_the_lock_too(added: Done, python: Run) -> None:
    # where nothing answers, it would ask the network, which is not there
    done = python("""\
import os, subprocess, sys, torch, hublock
with hublock.modules("someone/net:v1"):
    import hubconf
print(hubconf.net(pretrained=True).layer.bias.tolist())
os.chdir(os.path.dirname(__file__))
torch.save(hublock.load("net"), "net.pt")
again = '''
import sys, torch
space = type(torch.load("net.pt", weights_only=False)).__module__.rpartition(".")[0]
print(sys.modules[f"{space}.hubconf"].net(pretrained=True).layer.bias.tolist())
'''
print(subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True).stdout, end="")
""")
    assert done.out == "[1.0, 2.0]\n" * 2, done


def test_what_a_program_says_of_lock_and_store_is_said_to_the_processes_it_starts(
    added: Done, project: Path, store: Path, tmp_path: Path
) -> None:
    elsewhere, script = tmp_path / "elsewhere", tmp_path / "work" / "script.py"
    elsewhere.mkdir()
    script.parent.mkdir()
    shutil.copy(project / "hub.lock", elsewhere / "paper.lock")
    script.write_text("""\
import multiprocessing, os, subprocess, sys, torch, hublock

def width(model):
    return model.layer.out_features, torch.hub.load("someone/net:v1", "net").layer.out_features

if __name__ == "__main__":
    hublock.activate()
    hublock.use(sys.argv[1])
    hublock.set_dir(sys.argv[2])
    os.chdir("/")
    model = torch.hub.load("someone/net:v1", "net", pretrained=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.apply(width, [model]))
    words = "import torch; print(torch.hub.load('someone/net:v1', 'net').layer.out_features)"
    print(subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.strip())
""")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HUBLOCK_")}
    done = subprocess.run(
        [sys.executable, script, elsewhere / "paper.lock", os.path.relpath(store, script.parent)],
        cwd=script.parent,
        env={**environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("2 2\n2\n", 0), done.stderr


def test_what_a_script_asks_torch_hub_for_can_be_locked_by_running_it(served: Forge, run: Run, project: Path) -> None:
    (project / "old.py").write_text(
        "import sys, torch\n"
        "model = torch.hub.load('someone/net:v1', 'net', pretrained=True, trust_repo=True)\n"
        "print(sorted(torch.hub.load_state_dict_from_url('https://example.org/net.pth')), sys.argv[1:])\n"
        "torch.hub.download_url_to_file('https://example.org/labels.txt', 'labels.txt')\n"
        "torch.hub.load('someone/net:v1', 'net', pretrained=True)\n"
        "class Four(int): 'cannot be written into a lock, and need not be'\n"
        "torch.hub.load('someone/net:v1', 'net', pretrained=True, width=Four(4))\n"
    )

    served.serve("https://example.org/labels.txt", b"cat")

    done = run("lock", "--", "python", "old.py", "-x")

    assert str(done) == (
        "exit 0\n--- stdout\n['layer.bias', 'layer.weight'] ['-x']\n--- stderr\n"
        "   Locked net: net(pretrained=True) of someone/net:v1 at <commit> of 2023-11-14\n"
        "          1 file, 1.8 KiB; traced within <isolation>, confirmed\n"
        "   Locked labels: https://example.org/labels.txt\n"
    )
    assert run("lock", "--check").code == 0


def test_how_a_script_s_models_are_traced_is_said_before_it(served: Forge, run: Run, project: Path) -> None:
    (project / "old.py").write_text("import torch; torch.hub.load('someone/net:v1', 'net', pretrained=True)")

    slow = run("lock", "--timeout", "0.01", "--", "python", "old.py")
    unconfirmed = run("lock", "--no-confirm", "--", "python", "old.py")

    assert "error: someone/net:v1 net was still running after 0.01 s\n" in slow.err
    assert unconfirmed.code == 0
    assert "1 file, 1.8 KiB; traced within <isolation>, unconfirmed\n" in unconfirmed.err


def test_a_script_that_asks_for_what_cannot_be_locked_is_stopped(served: Forge, run: Run, project: Path) -> None:
    (project / "old.py").write_text("""\
import torch
for refused in (lambda: torch.hub.list("someone/net:v1"), lambda: torch.hub.load(".", "net", source="local")):
    try:
        refused()
    except Exception as error:
        print(type(error).__name__, error)
torch.hub.load("someone/nowhere", "net")
""")

    done = run("lock", "--", "python", "old.py")

    assert done.code == 126
    assert done.out == (
        "NotLocked someone/net:v1 is not locked, and only loading a model adds to the lock\n"
        "  hint: hublock add someone/net:v1 ENTRYPOINT\n"
        "NotLocked . is a folder of your own, for which no lock vouches\n"
        "  hint: hublock run --allow-local, or hublock.activate(allow_local=True)\n"
    )
    assert not (project / "hub.toml").exists()
    assert "error: github.com does not show someone/nowhere" in done.err
    assert "IncompleteTrace: someone/nowhere net could not be locked (exit code 2)" in done.err


def test_locking_what_a_program_asks_for_needs_that_program(run: Run, project: Path) -> None:
    done = run("lock", "--", "no-such-program")

    assert done.code == 2
    assert "error: there is no program no-such-program" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_shall_end_the_run_is_for_the_script_to_decide(
    added: Done, run: Run, project: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (project / "slow.py").write_text("""\
import signal, time
def save(number, frame):
    time.sleep(0.3)
    print("saved", number)
    raise SystemExit(3)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
print("ready", flush=True)
time.sleep(30)
""")
    process = subprocess.Popen(
        [sys.executable, "-m", "hublock", "run", "slow.py"],
        cwd=project,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    # as the terminal sends Ctrl-C: to all that run in it
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)

    assert process.communicate(timeout=20)[0] == f"saved {number}\n"
    assert process.returncode == 3
    assert not list(tmp_path.glob("hublock-run-*"))


@pytest.mark.parametrize("option", [("--check",), ("--retrace", "net")])
def test_a_command_and_a_question_do_not_go_together(
    added: Done, run: Run, project: Path, option: tuple[str, ...]
) -> None:
    done = run("lock", *option, "--", "python", "-c", "open('ran', 'w')")

    assert (done.code, done.err.splitlines()[-1]) == (2, "   hint: hublock lock -- COMMAND ARG…")
    assert not (project / "ran").exists()
