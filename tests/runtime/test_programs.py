"""Programs that a load starts are part of it; those that others start are not."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from hublock.errors import UnlockedDownload
from hublock.runtime import startup, torchhub
from hublock.runtime.strict import folders, refusals
from tests.runtime.answering import Shelf, ones, run
from tests.runtime.conftest import MakeRepository

ROOT = Path(__file__).parents[2]
URL = "https://example.org/weights.pth"
WAYS = {
    "run": "subprocess.run([sys.executable, TOOL])",
    "environment": "subprocess.run([sys.executable, TOOL], env={'PATH': os.environ['PATH']})",
    "bytes": "subprocess.run([sys.executable, TOOL], env=dict(os.environb))",
    "shell": "subprocess.run(f'{sys.executable} {TOOL}', shell=True)",
    "script": "subprocess.run(['sh', os.path.join(HERE, 'start.sh')], env={**os.environ, 'PY': sys.executable})",
    "system": "os.system(f'{sys.executable} {TOOL}')",
    "popen": "os.popen(f'{sys.executable} {TOOL}').close()",
    "spawnv": "os.spawnv(os.P_WAIT, sys.executable, [sys.executable, TOOL])",
    "spawnlpe": "os.spawnlpe(os.P_WAIT, sys.executable, sys.executable, TOOL, dict(os.environ))",
    "posix_spawn": "os.waitpid(os.posix_spawn(sys.executable, [sys.executable, TOOL], os.environ), 0)",
    "exec": "os.waitpid(os.fork() or os.execv(sys.executable, [sys.executable, TOOL]), 0)",
    "asyncio": "asyncio.run(wait(sys.executable, TOOL))",
    "grandchild": "subprocess.run([sys.executable, '-c', 'import subprocess, sys;"
    " subprocess.run([sys.executable, sys.argv[1]], env={})', TOOL])",
}
HUBCONF = """
import asyncio, multiprocessing, os, subprocess, sys
HERE = os.path.dirname(__file__)
TOOL = os.path.join(HERE, "tool.py")
async def wait(*words):
    await (await asyncio.create_subprocess_exec(*words)).wait()
def model():
    {}
    return "random"
"""
FETCHES = {
    "urllib": "urllib.request.urlopen('https://example.org/x')",
    "socket": "socket.create_connection(('example.org', 443))",
    "torch.hub": "__import__('torch').hub.load_state_dict_from_url('https://example.org/x')",
    "curl": "subprocess.run(['curl', 'https://example.org/x'])",
    "thread": "[(t := threading.Thread(target=urllib.request.urlopen, args=('https://example.org/x',))).start(),"
    " t.join()]",
    "raw thread": "(_thread.start_new_thread(swallow, ()), time.sleep(60 if not done.wait(60) else 0))",
}
TOOL = """
import _thread, os, socket, subprocess, sys, threading, time, urllib.request
done = threading.Event()
def swallow():
    try:
        urllib.request.urlopen("https://example.org/x")
    except OSError:
        done.set()
try:
    {}
except OSError:
    pass
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_python_is_refused_the_load_is_refused(shelf: Shelf, repository: MakeRepository, way: str) -> None:
    files = {"tool.py": TOOL.format(FETCHES["urllib"]), "start.sh": 'exec "$PY" "$(dirname "$0")/tool.py"\n'}
    repo = repository(HUBCONF.format(WAYS[way]), files)

    with pytest.raises(UnlockedDownload, match=r"nobody locked https://example\.org/x"):
        run(repo, "model", answers=shelf)


@pytest.mark.parametrize("fetch", FETCHES)
def test_whatever_it_fetches_with(shelf: Shelf, repository: MakeRepository, fetch: str) -> None:
    repo = repository(HUBCONF.format(WAYS["run"]), {"tool.py": TOOL.format(FETCHES[fetch])})

    with pytest.raises(
        UnlockedDownload, match=r"nobody locked https://example\.org/x|tries to (reach example|run curl)"
    ):
        run(repo, "model", answers=shelf)


def test_a_python_gets_what_is_locked(shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
    shelf.put(URL, ones(2))
    hubconf = """
        import os, subprocess, sys, torch
        def model(folder):
            tool = os.path.join(os.path.dirname(__file__), "tool.py")
            subprocess.run([sys.executable, tool, folder], check=True)
            return torch.load(os.path.join(folder, "weights.pth"))["w"].tolist()
    """
    tool = f"""
        import os, sys, torch, urllib.request
        by_urllib = urllib.request.urlopen("{URL}").read()
        target = os.path.join(sys.argv[1], "weights.pth")
        torch.hub.download_url_to_file("{URL}", target)
        assert open(target, "rb").read() == by_urllib
        assert torch.load(target)["w"].tolist() == [1.0, 1.0]
    """
    repo = repository(hubconf, {"tool.py": textwrap.dedent(tool)})

    assert run(repo, "model", [str(tmp_path)], answers=shelf) == [1.0, 1.0]


@pytest.mark.parametrize(("word", "program"), [("curl", "curl"), ("git", "git"), ("wget", "wget"), ("pip3", "pip")])
def test_a_shell_script_finds_no_program_that_fetches(
    shelf: Shelf, repository: MakeRepository, capfd: pytest.CaptureFixture[str], word: str, program: str
) -> None:
    way = "subprocess.run(['sh', os.path.join(HERE, 'get.sh')])"
    repo = repository(HUBCONF.format(way), {"get.sh": f"{word} https://example.org/x || echo fell back\n"})
    what = f"subprocess:{program}"

    with pytest.raises(UnlockedDownload, match=f"{repo.id} model tries to run {program}") as caught:
        run(repo, "model", answers=shelf)
    assert f"--tolerate {what}" in str(caught.value.hint)
    told = capfd.readouterr()
    assert told.out == "fell back\n"
    assert told.err == f"hublock: {repo.id} model tries to run {program}\n"
    assert run(repo, "model", answers=shelf, tolerated=[what]) == "random"


def test_programs_run_as_they_were_asked_to(shelf: Shelf, repository: MakeRepository) -> None:
    repo = repository("""
        import os, subprocess, sys
        def model():
            given = {"A": "b c", "PATH": os.environ["PATH"]}
            said = [
                subprocess.check_output("echo $A", shell=True, env=given, text=True),
                "/usr/local/bin" in subprocess.check_output("echo $PATH", shell=True, env={}, text=True),
                subprocess.check_output([sys.executable, "-c", "print(__import__('os').environ['A'])"], env=given),
                os.popen("exit 4").close(),
                os.waitstatus_to_exitcode(os.system("exit 3")),
                os.system(b"true"),
                os.system("  # nothing"),
            ]
            for wrong in ([("A", "b")], {"A": 1}):
                try:
                    subprocess.run(["true"], env=wrong)
                except (AttributeError, TypeError):
                    said.append("refused")
            assert given == {"A": "b c", "PATH": os.environ["PATH"]}
            return said
    """)
    before = dict(os.environ)

    assert run(repo, "model", answers=shelf) == ["b c\n", True, b"b c\n", 4 << 8, 3, 0, 0, "refused", "refused"]
    assert dict(os.environ) == before
    assert (os.system.__name__, os.system.__module__) == ("system", "os")


@pytest.mark.parametrize("option", ["-u", "-S"])
def test_no_python_of_a_load_writes_into_its_tree(shelf: Shelf, repository: MakeRepository, option: str) -> None:
    code = "import os, sys; sys.path.insert(0, os.getcwd()); import beside; print(len(os.listdir()))"
    # one of them imports no sitecustomize
    way = f'return subprocess.check_output([sys.executable, "{option}", "-c", {code!r}], cwd=HERE, text=True)'
    repo = repository(HUBCONF.format(way), {"beside.py": ""})

    assert run(repo, "model", answers=shelf) == "2\n"


def test_a_sitecustomize_of_the_users_still_runs(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('customized')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    code = "import sys; print(sorted(name for name in sys.modules if name == 'torch'), sys.path[1] == sys.argv[1])"
    command = f"[sys.executable, '-c', {code!r}, {str(tmp_path / 'site')!r}]"
    repo = repository(HUBCONF.format(f"return subprocess.check_output({command}, text=True)"))

    assert run(repo, "model", answers=shelf) == "customized\n[] True\n"


def test_programs_of_others_are_none_of_the_loads(shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
    code = "import os; print('HUBLOCK_ARRIVAL' in os.environ, 'hublock-' in os.environ['PATH'])"
    command = [sys.executable, "-c", code]
    inside, leave = threading.Event(), threading.Event()
    repo = repository(f"""
        import subprocess
        def model(wait):
            wait()
            return subprocess.check_output({command!r}, text=True)
    """)
    said: list[str] = []

    def wait() -> None:
        inside.set()
        leave.wait(60)

    load = threading.Thread(target=lambda: said.append(run(repo, "model", [wait], answers=shelf)))
    load.start()
    assert inside.wait(60)
    beside = subprocess.check_output(command, text=True)
    leave.set()
    load.join()

    assert (beside, said) == ("False False\n", ["True True\n"])
    assert subprocess.check_output(command, text=True) == "False False\n"


def test_a_python_that_outlives_its_load_goes_on(shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
    repo = repository("""
        import subprocess
        def model():
            return subprocess.check_output("echo $HUBLOCK_ARRIVAL", shell=True, text=True)
    """)
    arrival = run(repo, "model", answers=shelf).strip()
    assert Path(arrival).is_file()

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "hublock" / "startup")}
    environment["HUBLOCK_ARRIVAL"] = f"{arrival}.gone"
    done = subprocess.run(
        [sys.executable, "-c", "print('on')"], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("on\n", "")


def test_a_python_that_cannot_be_taken_into_the_load_does_not_run(shelf: Shelf, repository: MakeRepository) -> None:
    way = """
    arrival = subprocess.check_output("echo $HUBLOCK_ARRIVAL", shell=True, text=True).strip()
    before = pathlib.Path(arrival).read_bytes()
    with unittest.mock.patch("pickle.dump", lambda _, file: file.write(before[:-9])):
        return subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True)
    """
    repo = repository("import pathlib, unittest.mock\n" + HUBCONF.format(way))

    with pytest.raises(UnlockedDownload, match="model starts a Python that cannot be held to the lock"):
        run(repo, "model", answers=shelf)
    done = run(repo, "model", answers=shelf, tolerated=["subprocess:python"])

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"hublock: {sys.executable} cannot be held to the lock: ".encode())


def test_a_python_that_is_too_old_to_be_taken_in_does_not_run(shelf: Shelf, repository: MakeRepository) -> None:
    # without sitecustomize, and then with what an older Python would make of it
    code = f"import runpy, sys; sys.version_info = (3, 10); runpy.run_path({startup.FOLDER + '/sitecustomize.py'!r})"
    repo = repository(HUBCONF.format(f"subprocess.run([sys.executable, '-S', '-c', {code!r}], stderr=subprocess.PIPE)"))

    with pytest.raises(UnlockedDownload, match="model starts a Python that cannot be held to the lock"):
        run(repo, "model", answers=shelf)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_program_are_of_its_load(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path, method: str
) -> None:
    shelf.put(URL, b"weights", pickle="none")
    tool = f"""
        import multiprocessing, sys, urllib.request
        if __name__ == "__main__":
            with multiprocessing.get_context("{method}").Pool(1) as pool:
                # of a library, in whose frames no code of the repository's is
                pool.apply(urllib.request.urlretrieve, ("{URL}", sys.argv[1]))
                try:
                    pool.apply(urllib.request.urlretrieve, ("https://example.org/x", sys.argv[1] + "2"))
                except OSError:
                    pass
    """
    out = str(tmp_path / "out")
    way = f"subprocess.run([sys.executable, TOOL, {out!r}])"
    repo = repository(HUBCONF.format(way), {"tool.py": textwrap.dedent(tool)})

    with pytest.raises(UnlockedDownload, match=r"nobody locked https://example\.org/x"):
        run(repo, "model", answers=shelf)
    assert Path(out).read_bytes() == b"weights"


@pytest.mark.parametrize(
    "order", ["{writes}{fetches}os._exit(0)\n", "{fetches}{writes}os._exit(0)\n", "{fetches}{writes}"]
)
def test_what_a_program_leaves_instead_of_what_it_was_refused_is_known_to_later_loads(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path, order: str
) -> None:
    fallback = str(tmp_path / "fallback")
    writes = f"with open({fallback!r}, 'w') as file:\n    file.write('random')\n"
    ends = "os._exit(0)\n"
    tool = order.format(writes=f"import os\n{writes}", fetches=TOOL.format(FETCHES["urllib"]), ends=ends)
    repo = repository(HUBCONF.format(WAYS["run"]), {"tool.py": tool})
    reading = repository(f"def model():\n    with open({fallback!r}) as file:\n        return file.read()\n")

    with pytest.raises(UnlockedDownload):
        run(repo, "model", answers=shelf)
    seen = torchhub.watch(reading, "model", answers=shelf)
    assert seen.result == "random"
    assert seen.beside.fallback_files() == {fallback: ["https://example.org/x"]}


def test_what_a_program_saves_the_load_may_load(shelf: Shelf, repository: MakeRepository, tmp_path: Path) -> None:
    shelf.put(URL, ones(2))
    convert = f"""
        import sys, torch
        found = torch.hub.load_state_dict_from_url("{URL}")
        torch.save({{name: value * 2 for name, value in found.items()}}, sys.argv[1])
        with open(sys.argv[1] + ".txt", "w") as file:
            file.write("written")
    """
    out = str(tmp_path / "converted.pth")
    way = f"subprocess.run([sys.executable, TOOL, {out!r}], check=True)\n    open({out + '.txt'!r}).close()\n"
    way += f"    return torch.load({out!r})['w'].tolist()"
    repo = repository("import torch\n" + HUBCONF.format(way), {"tool.py": textwrap.dedent(convert)})

    refusals.by_library["somebody"] = {URL: {"another model"}}
    seen = torchhub.watch(repo, "model", answers=shelf)
    assert seen.result == [2.0, 2.0]
    # as if the code had fetched and written by itself
    assert seen.given == {shelf.files[URL].digest}
    assert seen.beside.keepers(named=None) == []
    assert f"{out}.txt" not in seen.beside.users_files()


def test_a_whole_model_that_a_program_saves_the_load_may_load(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path
) -> None:
    out = str(tmp_path / "whole.pt")
    tool = "import sys, torch\nfrom net import Net\ntorch.save(Net(), sys.argv[1])\n"
    way = f"subprocess.run([sys.executable, TOOL, {out!r}], check=True)\n    from net import Net\n"
    way += f"    return type(torch.load({out!r}, weights_only=False)) is Net"
    repo = repository("import torch\n" + HUBCONF.format(way), {"tool.py": tool, "net.py": "class Net:\n    pass\n"})

    assert run(repo, "model", answers=shelf) is True


def test_what_was_refused_is_said_where_the_code_fails_without(shelf: Shelf, repository: MakeRepository) -> None:
    way = "subprocess.run(['sh', os.path.join(HERE, 'get.sh')], check=True, stderr=subprocess.PIPE)"
    repo = repository(HUBCONF.format(way), {"get.sh": "wget https://example.org/x\n"})

    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(repo, "model", answers=shelf, tolerated=["subprocess:wget"])
    assert caught.value.__notes__ == ["it was refused subprocess:wget"]


def test_a_program_of_an_earlier_model_is_none_of_a_load_under_way(shelf: Shelf, either: MakeRepository) -> None:
    hubconf = """
        import os, subprocess, sys
        HERE = os.path.dirname(__file__)
        def forward():
            for words in ([sys.executable, "tool.py"], ["sh", "get.sh"]):
                subprocess.run(words, cwd=HERE, stderr=subprocess.PIPE)
        def a():
            return forward
        def b(wait):
            wait()
            return "b"
    """
    repo = either(hubconf, {"tool.py": TOOL.format(FETCHES["urllib"]), "get.sh": "curl https://example.org/x\n"})
    forward = run(repo, "a", answers=shelf)
    go, done = threading.Event(), threading.Event()

    def beside() -> None:
        go.wait(60)
        forward()
        done.set()

    def wait() -> None:
        go.set()
        assert done.wait(60)

    thread = threading.Thread(target=beside)
    thread.start()
    loaded = run(repo, "b", [wait], answers=shelf)
    thread.join()

    assert loaded == "b"


def test_a_program_that_a_module_keeps_may_work_for_a_later_load(shelf: Shelf, repository: MakeRepository) -> None:
    hubconf = """
        import os, subprocess, sys
        from keeping import kept
        def a():
            words = [sys.executable, "-u", os.path.join(os.path.dirname(__file__), "server.py")]
            kept.append(subprocess.Popen(words, stdin=-1, stdout=-1, text=True, bufsize=1))
        def b():
            kept[0].stdin.write("x\\n")
            return kept[0].stdout.readline()
        def close():
            kept[0].communicate()
    """
    server = """
        import sys, urllib.request
        for line in sys.stdin:
            try:
                urllib.request.urlopen("https://example.org/" + line.strip())
            except OSError:
                print("random")
    """
    repo = repository(hubconf, {"server.py": textwrap.dedent(server), "keeping.py": "kept = []\n"})
    run(repo, "a", answers=shelf)

    with pytest.raises(UnlockedDownload, match=r"nobody locked https://example\.org/x"):
        run(repo, "b", answers=shelf)


def test_a_program_that_starts_others_by_a_shell_prints_nothing_else(shelf: Shelf, repository: MakeRepository) -> None:
    code = "import os; os.system('echo one; echo two')"
    way = f"return subprocess.check_output([sys.executable, '-c', {code!r}], text=True)"

    assert run(repository(HUBCONF.format(way)), "model", answers=shelf) == "one\ntwo\n"


def test_what_a_load_within_a_program_may_live_without_is_nothing_to_the_other(
    shelf: Shelf, repository: MakeRepository, tmp_path: Path
) -> None:
    inner = (
        "import urllib.request\ndef model():\n    try:\n        urllib.request.urlopen('https://telemetry.example/')\n"
    )
    inner += "    except OSError:\n        return 'inner'\n"
    tool = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from tests.runtime.answering import Shelf, run
        from tests.runtime.trees import make_repository
        folder = Path(sys.argv[1])
        inner = make_repository(folder, {{"hubconf.py": {inner!r}}}, identity="o/inner")
        print(run(inner, "model", answers=Shelf(folder), tolerated=["https://telemetry.example"]))
    """
    way = f"return subprocess.check_output([sys.executable, TOOL, {str(tmp_path / 'inner')!r}], text=True)"
    repo = repository(HUBCONF.format(way), {"tool.py": textwrap.dedent(tool)})

    assert run(repo, "model", answers=shelf) == "inner\n"


@pytest.mark.parametrize("is_over", [False, True])
def test_programs_run_where_the_private_folder_is_gone(
    shelf: Shelf, repository: MakeRepository, monkeypatch: pytest.MonkeyPatch, *, is_over: bool
) -> None:
    repo = repository("""
        import pathlib, shutil, subprocess, torch
        def model(gone):
            private = pathlib.Path(torch.hub.get_dir()).parents[2]
            gone(private)
            shutil.rmtree(private)
            return subprocess.check_output("echo $HUBLOCK_ARRIVAL", shell=True, text=True).strip()
    """)
    removed: set[Path] = set()
    monkeypatch.setattr(folders, "removed", removed)

    arrival = run(repo, "model", [removed.add if is_over else str], answers=shelf)

    # of a folder that a cleaner of temporary files took, or of one that goes as the process exits
    assert Path(arrival).is_file() is not is_over


def test_what_others_do_to_popen_and_with_system_still_works(tmp_path: Path) -> None:
    code = f"""
import functools, os, pickle, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
subprocess.Popen = functools.partial(subprocess.Popen, close_fds=True)
from hublock.runtime import torchhub
torchhub.install()
class Shell:
    call = os.system
assert Shell().call("exit 3") == 3 << 8
from pathlib import Path
from tests.runtime.answering import Shelf, run
from tests.runtime.trees import make_repository
hubconf = "import subprocess\\nmodel = lambda: subprocess.check_output('echo $HUBLOCK_ARRIVAL', shell=True).strip()"
assert run(make_repository(Path({str(tmp_path)!r}), {{"hubconf.py": hubconf}}), "model", answers=Shelf(Path()))
assert pickle.loads(pickle.dumps(os.system)) is os.system
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_programs_that_the_code_starts_after_the_load(shelf: Shelf, repository: MakeRepository) -> None:
    hubconf = """
        import os, subprocess, sys
        class Model:
            def __call__(self):
                tool = os.path.join(os.path.dirname(__file__), "tool.py")
                return subprocess.run([sys.executable, tool], capture_output=True, text=True).stderr
        def model():
            return Model()
    """
    repo = repository(hubconf, {"tool.py": TOOL.format(FETCHES["urllib"])})

    assert (
        "nobody locked https://example.org/x; what the model returns now may be wrong"
        in run(repo, "model", answers=shelf)()
    )
