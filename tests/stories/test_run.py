"""Scripts that know nothing of hublock."""

from pathlib import Path

from tests.stories.conftest import Done, Run

OLD = """\
import sys
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
    (project / "package").mkdir()
    (project / "package" / "__main__.py").write_text("import sys\nprint(sys.argv[1:])\n")
    assert run("run", "-m", "package", "-x").out == "['-x']\n"
    assert run("run").err.startswith("error: which script should run?\n")


def test_a_sitecustomize_that_is_hidden_runs_all_the_same(added: Done, run: Run, project: Path) -> None:
    (project / "site").mkdir()
    (project / "site" / "sitecustomize.py").write_text("import builtins\nbuiltins.seen = True\n")
    (project / "see.py").write_text(
        "import sitecustomize\nprint(seen, sitecustomize.__file__.endswith('site/sitecustomize.py'))\n"
    )

    assert run("run", "see.py", PYTHONPATH=str(project / "site")).out == "True True\n"


def test_a_program_may_activate_the_lock_and_prove_what_it_loaded(added: Done, python: Run) -> None:
    done = python("""\
import hublock, torch
with hublock.activated():
    model = torch.hub.load("someone/net:v1", "net", pretrained=True)
print(type(model).__name__)
hublock.load("net", verify="state")
hublock.load("someone/net:v1", "net", pretrained=True, verify="state")
for call in ({"width": 4}, {"pretrained": True, "width": 4}):
    try:
        hublock.load("someone/net:v1", "net", verify="state", **call)
    except hublock.HublockError as error:
        print(type(error).__name__)
hublock.activate()
try:
    torch.hub.load("someone/other", "net")
except hublock.HublockError as error:
    print(type(error).__name__)
""")

    assert done.out == "Net\nNotLocked\nNotLocked\nNotLocked\n", done
