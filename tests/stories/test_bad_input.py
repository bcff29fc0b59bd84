"""Wrong input: one sentence, a hint, the right exit code, and no file touched."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.forge import Forge, Link
from tests.stories.conftest import HUBCONF, NET, Done, Run, state_dict, told, without_privileges

CONFLICT = """\
version = 1
<<<<<<< ours
environment = "exact"
=======
>>>>>>> theirs
"""


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def refused(done: Done, code: int, sentence: str, hint: str) -> None:
    """Check the whole of what a refusal prints."""
    assert str(done) == f"exit {code}\n--- stdout\n--- stderr\nerror: {sentence}\n   hint: {hint}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[models.net\n",
            "<project>/hub.toml: line 1, column 12: not valid TOML (expected ']' at the end of a table declaration)",
        ),
        ("[models.net]\nrepo = 3\n", "<project>/hub.toml: models.net.repo: expected a string, found an integer"),
        ('[models.net]\nrepo = "a/b"\ncolour = "red"\n', "<project>/hub.toml: models.net.colour: unknown key"),
        ('[models.net]\nrepo = "a/b/c"\n', "<project>/hub.toml: models.net.repo: 'a/b/c' does not name a repository"),
    ],
)
@pytest.mark.parametrize("words", [("lock",), ("add", "someone/net", "net"), ("remove", "net"), ("lock", "--check")])
def test_refuses_a_bad_manifest(run: Run, project: Path, text: str, sentence: str, words: tuple[str, ...]) -> None:
    (project / "hub.toml").write_text(text)
    before = snapshot(project)

    done = run(*words)

    assert done.err.startswith(f"error: {sentence}\n   hint: "), done
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 2)
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (
            ("add", "--url", "https://example.org/get?id=1&x=$(ls)"),
            "hublock add --url 'https://example.org/get?id=1&x=$(ls)' --name NAME",
        ),
        (("help", "./no;thing"), "hublock list './no;thing'"),
        (("list", "--project", "no folder"), "mkdir -p '<project>/no folder'"),
        (("init", "--project", "no folder/hub.toml"), "mkdir -p '<project>/no folder'"),
    ],
)
def test_a_command_in_a_hint_may_be_pasted(run: Run, words: tuple[str, ...], hint: str) -> None:
    assert run(*words).err.endswith(f"\n   hint: {hint}\n")


def test_a_name_in_a_hint_may_be_pasted(run: Run, project: Path) -> None:
    (project / "hub.toml").write_text('[weights."no;thing"]\nurl = "https://example.org/x"\n')
    done = run("add", "--url", "https://example.org/y", "--name", "no;thing")
    hint = "hublock add … --name 'no;thing-2', or hublock remove 'no;thing' first"
    refused(done, 2, "<project>/hub.toml already has another no;thing", hint)


def test_a_folder_that_was_removed_is_no_place_to_work_in(project: Path) -> None:
    (project / "gone").mkdir()
    command = ["sh", "-c", f"rmdir ../gone && exec {sys.executable} -m hublock list"]
    done = subprocess.run(command, cwd=project / "gone", capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the current folder was removed\n   hint: cd to another one\n"


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("version = 2\n", 2, "<project>/hub.lock: version: is 2, and this hublock reads only 1"),
        ("version = 1\nextra = 1\n", 2, "<project>/hub.lock: extra: unknown key"),
        ("version = 1\n[[repo]]\n", 2, "<project>/hub.lock: repo[0].id: is missing"),
        ("version = ", 2, "<project>/hub.lock: at its end: not valid TOML (invalid value)"),
    ],
)
@pytest.mark.parametrize("words", [("lock",), ("sync",), ("verify",), ("list",), ("add", "someone/net", "net")])
def test_refuses_a_bad_lock(
    run: Run, project: Path, text: str, code: int, sentence: str, words: tuple[str, ...]
) -> None:
    (project / "hub.toml").write_text("")
    (project / "hub.lock").write_text(text)
    before = snapshot(project)

    done = run(*words)

    assert done.err.startswith(f"error: {sentence}\n   hint: "), done
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 2)
    assert snapshot(project) == before


@pytest.mark.parametrize(
    "words", [("sync",), ("verify",), ("list",), ("lock", "--check"), ("add", "someone/net", "net")]
)
def test_refuses_a_lock_in_conflict_and_names_the_command_that_recovers_it(
    run: Run, project: Path, words: tuple[str, ...]
) -> None:
    (project / "hub.toml").write_text("")
    (project / "hub.lock").write_text(CONFLICT)
    before = snapshot(project)

    refused(run(*words), 2, "<project>/hub.lock: line 2: holds git conflict markers", "hublock lock")
    assert snapshot(project) == before


def test_refuses_what_the_host_does_not_have(served: Forge, run: Run, project: Path) -> None:
    repo = served.repo("someone/bare", {"README": "no hubconf"})
    repo.commit({"hubconf.py": "def broken(:\n"}, branch="broken")
    repo.commit({"hubconf.py": "dependencies = ['torch']\nraise SystemExit(3)\ndef net(): pass\n"}, branch="exits")

    nowhere = run("add", "someone/nowhere", "net")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert nowhere.err.startswith(
        "error: github.com does not show someone/nowhere: it does not exist, it is private, or "
    )
    assert "GITHUB_TOKEN" in nowhere.err

    branch = run("add", "someone/net:v2", "net")
    assert branch.code == 2
    assert "someone/net" in branch.err
    assert "v1" in branch.err

    refused(
        run("add", "someone/net", "nett"),
        2,
        "someone/net has no entry point nett; did you mean net?",
        "hublock list someone/net",
    )
    refused(
        run("add", "someone/bare", "net"),
        2,
        "someone/bare has no hubconf.py, so it is not a hub repository",
        "check the name and the ref",
    )
    broken = run("add", "someone/bare:broken", "net")
    assert broken.code == 2
    assert "hubconf.py:1" in broken.err
    exits = run("add", "someone/bare:exits", "net")
    assert exits.code == 6
    assert "SystemExit" in exits.err or "exit" in exits.err
    assert list(project.iterdir()) == []
    for done in (nowhere, branch, broken, exits):
        assert "Traceback" not in done.err
        assert done.err.splitlines()[-1].startswith("   hint: ")


@pytest.mark.parametrize("target", ["nowhere.py", "folder"])
@pytest.mark.parametrize(
    "words",
    [
        ("add", "someone/linked", "net"),
        ("list", "someone/linked"),
        ("list", "someone/linked", "--weights"),
        ("help", "someone/linked", "net"),
    ],
)
def test_refuses_a_hubconf_that_leads_to_no_file(
    forge: Forge, run: Run, project: Path, target: str, words: tuple[str, ...]
) -> None:
    forge.repo("someone/linked", {"hubconf.py": Link(target), "folder/net.py": NET})
    refused(run(*words), 2, "hubconf.py of someone/linked is a link that leads to no file", "check the ref")
    assert list(project.iterdir()) == []


@pytest.mark.parametrize("words", [("add", "someone/net", "net"), ("add", "--url", "https://example.org/net.pth")])
def test_refuses_a_name_that_no_manifest_can_hold_before_it_asks_anybody(
    served: Forge, run: Run, project: Path, words: tuple[str, ...]
) -> None:
    refused(
        run(*words, "--name", "a b"),
        2,
        '--name: expected a name without white space, slash, colon or @, and no dot in front, found "a b"',
        "hublock add … --name NAME",
    )
    assert served.requests == []
    assert list(project.iterdir()) == []


def test_refuses_a_file_that_is_no_lock_where_one_is_named(run: Run, project: Path) -> None:
    (project / "hub.toml").write_text("")
    assert run("lock").code == 0
    for words in (("verify", "--against"), ("diff",), ("cache", "prune", "--keep-lock")):
        done = run(*words, str(project / "hub.toml"))
        assert (done.code, done.err.splitlines()[-1]) == (2, "   hint: name a lock, such as <project>/hub.lock"), words


def test_refuses_a_word_that_is_ref_and_entry_point_at_once(served: Forge, run: Run, project: Path) -> None:
    served.repo("someone/both", {"hubconf.py": HUBCONF, "net.py": NET}).tag("net")

    refused(
        run("add", "someone/both:net"),
        2,
        "net is both a ref and an entry point of someone/both",
        "hublock add someone/both net for the entry point, hublock add someone/both:net ENTRYPOINT for the ref",
    )
    nearest = run("add", "someone/both:nets")
    assert nearest.code == 2
    assert nearest.err.startswith(
        "error: someone/both has neither a ref nor an entry point nets; did you mean net?\n   hint: "
    )
    listed = run("add", "someone/net:v1")
    assert (listed.code, listed.out) == (0, "Net\nnet(pretrained=False, width=4)  A small network.\n")
    assert list(project.iterdir()) == []


def test_refuses_a_missing_dependency_before_anything_is_imported(served: Forge, run: Run, project: Path) -> None:
    hubconf = "dependencies = ['torch', 'surely_not_here', 'nor_this']\nopen('/imported', 'w')\ndef net(): pass\n"
    served.repo("someone/needy", {"hubconf.py": hubconf})

    done = run("add", "someone/needy", "net")

    refused(
        done,
        6,
        "someone/needy needs surely_not_here and nor_this, which are not installed",
        "pip install surely_not_here nor_this",
    )
    assert list(project.iterdir()) == []


def test_refuses_a_file_that_is_gone(served: Forge, run: Run, project: Path) -> None:
    served.forget("https://example.org/net.pth")

    for code, words in (
        (6, ("add", "someone/net", "net", "--kwarg", "pretrained=True")),
        (5, ("add", "--url", "https://example.org/net.pth", "--name", "backbone")),
    ):
        done = run(*words)
        assert done.code == code, done
        assert "https://example.org/net.pth" in done.err
        assert "404" in done.err
        assert "Traceback" not in done.err
    assert list(project.iterdir()) == []


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount ``folder`` read-only over itself: root ignores mode bits."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_refuses_a_read_only_project_before_any_work(added: Done, served: Forge, run: Run, project: Path) -> None:
    before, asked = snapshot(project), len(served.requests)
    with read_only(project):
        for words in (("add", "someone/net", "net", "--name", "two"), ("remove", "net"), ("lock",)):
            refused(run(*words), 7, "<project> is read-only", "chmod u+w <project>")
        assert run("verify").code == 0
        assert run("sync").code == 0

    assert snapshot(project) == before
    assert len(served.requests) == asked


def test_refuses_a_manifest_that_is_a_link_into_a_read_only_folder(pinned: Forge, project: Path) -> None:
    shared = project.parent / "shared"
    shared.mkdir()
    (project / "hub.toml").rename(shared / "hub.toml")
    (project / "hub.toml").symlink_to(shared / "hub.toml")
    shared.chmod(0o555)
    before = snapshot(project)

    command = [*without_privileges(), sys.executable, "-m", "hublock", "remove", "net"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (7, f"error: {shared} is read-only\n   hint: chmod u+w {shared}\n")
    assert snapshot(project) == before
    # which writes the lock alone
    assert subprocess.run([*command[:-2], "lock"], cwd=project, capture_output=True, check=False).returncode == 0


def test_a_lock_that_has_lost_its_manifest_keeps_its_pins(pinned: Forge, project: Path, hub: Run) -> None:
    (project / "hub.toml").unlink()
    before = snapshot(project)
    own = ("add", "--url", "https://example.org/backbone.bin", "--name")
    for words in (("lock",), ("update", "--all"), (*own, "new"), ("add", "a/tagged:v1", "net")):
        refused(
            hub(*words),
            4,
            "<project> holds no hub.toml beside its hub.lock",
            "git restore hub.toml, or pyproject.toml if that held it; a first add that was broken off may be "
            "typed again; hublock init gives up what is locked",
        )
    assert snapshot(project) == before

    # a first add that was killed leaves a lock alone as well, and may be typed again
    (project / "hub.lock").unlink()
    for _ in range(2):
        assert hub(*own, "backbone").code == 0
        (project / "hub.toml").unlink()
    pins = snapshot(project)
    pinned.serve("https://example.org/other.bin", b"other")
    assert hub("add", "--url", "https://example.org/other.bin", "--name", "backbone").code == 4
    assert snapshot(project) == pins

    (project / "hub.lock").write_text("version = 1\n")
    refused(hub("lock"), 4, "<project> holds no hub.toml", "hublock init")


def test_what_only_a_person_can_edit_leaves_both_files_as_they_are(
    forge: Forge, project: Path, hub: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge.serve("https://example.org/a.bin", b"a")
    (project / "pyproject.toml").write_text("[tool]\nhublock = {}\n")
    monkeypatch.chdir(project)

    refused(
        hub("add", "--url", "https://example.org/a.bin", "--name", "a"),
        2,
        "pyproject.toml: weights.a: is laid out in a way that cannot be edited safely",
        "edit the file by hand, then hublock lock",
    )
    assert [path.name for path in project.iterdir()] == ["pyproject.toml"]


def test_refuses_a_manifest_that_cannot_be_read(run: Run, project: Path) -> None:
    (project / "hub.toml").touch(mode=0o000)

    command = [*without_privileges(), sys.executable, "-m", "hublock", "lock"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    shown = Done(told(done.stdout, project), told(done.stderr, project), done.returncode)
    refused(shown, 7, "<project>/hub.toml can neither be read nor written", "chmod u+rw <project>/hub.toml")


@pytest.mark.parametrize(
    ("words", "code", "sentence", "hint"),
    [
        (
            ("add",),
            2,
            "what should be added?",
            "hublock add OWNER/REPO ENTRYPOINT, or hublock add --url URL --name NAME",
        ),
        (
            ("add", "not-a-reference", "net"),
            2,
            "'not-a-reference' does not name a repository",
            "write owner/repo[:ref], git+https://host/path[@ref] or a local path such as ./repo",
        ),
        (
            ("add", "someone/net", "net", "--kwarg", "pretrained"),
            2,
            "'pretrained' is not a keyword argument",
            "write --kwarg NAME=VALUE or --kwarg NAME:=TEXT",
        ),
        (
            ("add", "someone/net", "net", "--kwarg", "width=1", "--kwarg", "width:=2"),
            2,
            "--kwarg width is given twice",
            "write --kwarg width=VALUE once",
        ),
        (("list", "--weights"), 2, "--weights needs a repository", "hublock list OWNER/REPO --weights"),
        (
            ("add", "someone/net", "net", "Net", "--name", "one"),
            2,
            "--name one cannot name 2 entry points",
            "add them one at a time",
        ),
        (
            ("add", "someone/net:v1", "net", "--arg", "3"),
            2,
            "<project>/hub.toml already has another net",
            "hublock add … --name net-2, or hublock remove net first",
        ),
        (("remove", "nat"), 2, "<project>/hub.toml has no nat; did you mean net?", "hublock list"),
        (("help", "someone/net:v1", "nat"), 2, None, "hublock list someone/net:v1"),
        (("lock", "--retrace", "nat"), 4, "no model nat is locked; did you mean net?", "hublock list"),
        (
            ("add", "--url", "backbone.bin", "--name", "x"),
            2,
            "'backbone.bin' is not an http or https URL",
            "hublock add … --url https://…, with %20 for a space",
        ),
        (
            ("sync", "--from-bundle", "out.tar"),
            2,
            "there is no bundle out.tar",
            "hublock bundle OUT.tar makes one",
        ),
        (
            ("add", "--url", "https://me:secret@example.org/x", "--name", "x"),
            2,
            "--url: the URL holds a user name or password",
            "put credentials into ~/.netrc, never into a URL",
        ),
    ],
)
def test_refuses_a_wrong_command(
    added: Done, run: Run, project: Path, words: tuple[str, ...], code: int, sentence: str | None, hint: str
) -> None:
    before = snapshot(project)

    done = run(*words)

    if sentence is None:
        assert (done.code, done.err.splitlines()[-1]) == (code, f"   hint: {hint}")
    else:
        refused(done, code, sentence, hint)
    assert snapshot(project) == before


@pytest.mark.parametrize(
    "url", ["notaurl", "https://example.org/x y.pth", "https://example.org/x\n", "HTTPS://a.org/x"]
)
@pytest.mark.parametrize("words", [("--name", "x"), ("someone/net", "net", "--no-trace")], ids=["own", "model"])
def test_a_url_that_no_lock_can_hold_is_refused_before_anybody_is_asked(
    forge: Forge, project: Path, hub: Run, monkeypatch: pytest.MonkeyPatch, url: str, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(project)
    done = hub("add", *words, "--url", url)
    assert (done.code, done.err.splitlines()[-1]) == (2, "   hint: hublock add … --url https://…, with %20 for a space")
    assert (forge.requests, snapshot(project)) == ([], {})


@pytest.mark.parametrize(
    ("url", "sentence", "hint"),
    [
        (
            "http://example.org/a.pth",
            "http://example.org/a.pth is plain http, which anyone on the line can change",
            "use its https address, or allow it by a rule in HUBLOCK_MIRRORS",
        ),
        (
            "https://example.org:99999/a.pth",
            "https://example.org:99999/a.pth is not a URL: Port out of range 0-65535",
            "correct it, then hublock lock",
        ),
    ],
)
@pytest.mark.parametrize("key", ["weights.net.url", "models.net.urls"])
def test_a_url_of_the_manifest_that_is_never_fetched_is_refused_before_anybody_is_asked(
    forge: Forge, project: Path, hub: Run, monkeypatch: pytest.MonkeyPatch, key: str, url: str, sentence: str, hint: str
) -> None:
    value = f'["{url}"]\nmodels.net.repo = "a/b"' if key.startswith("models") else f'"{url}"'
    (project / "hub.toml").write_text(f"{key} = {value}\n")
    monkeypatch.chdir(project)

    refused(hub("lock"), 2, f"{key} of the manifest: {sentence}", hint)
    assert forge.requests == []


def test_another_lock_is_no_project(added: Done, run: Run, project: Path) -> None:
    other = project / "other.lock"
    other.write_text((project / "hub.lock").read_text())
    for words, environ in ((("run", "s.py"), {"HUBLOCK_PROJECT": str(other)}), (("list", "--project", str(other)), {})):
        refused(
            run(*words, **environ),
            2,
            "<project>/other.lock is no project: a command works on hub.toml and the hub.lock beside it",
            "name the folder <project>",
        )


def test_what_cannot_be_said_is_no_failure(added: Done, project: Path, store: Path) -> None:
    environ = {**os.environ, "HUBLOCK_CACHE_DIR": str(store), "PYTHONIOENCODING": "ascii"}
    for line, code in (
        ("verify 2>/dev/full", 0),
        ("verify 2>&-", 0),
        ("add --help", 0),
        ("help someone/net:v1 net", 0),
        ("list >/dev/full", 7),
        ("sync --help >/dev/full", 7),
        ("sync --help >&-", 0),
        ("--version | true", 0),
        ("cache list --help | true", 0),
    ):
        words = ["bash", "-c", f"set -o pipefail; {sys.executable} -m hublock {line}"]
        done = subprocess.run(words, cwd=project, env=environ, capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (line, done)
        assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("named", [False, True])
def test_who_has_no_home_names_a_folder_for_the_store(project: Path, tmp_path: Path, *, named: bool) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("HUBLOCK_", "XDG_", "HOME"))}
    if named:
        environ["HUBLOCK_CACHE_DIR"] = str(tmp_path / "store")
    # as in a container, whose user is a number that no file of users has
    words = ["unshare", "--map-user=12345", sys.executable, "-m", "hublock", "cache", "dir"]
    done = subprocess.run(words, cwd=project, env=environ, capture_output=True, text=True)
    if named:
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'store'}\n", "")
    else:
        assert done.returncode == 2
        assert done.stderr.startswith("error: there is no folder for the store: ")
        assert done.stderr.endswith("\n   hint: export HUBLOCK_CACHE_DIR=FOLDER\n")


def test_a_mark_of_an_editor_makes_no_other_lock(added: Done, run: Run, project: Path) -> None:
    lock = project / "hub.lock"
    lock.write_bytes(b"\xef\xbb\xbf" + lock.read_bytes())

    assert run("sync").code == 0
    assert "was edited by hand" in run("verify").err
    assert run("lock").code == 0
    assert lock.read_bytes().startswith(b"# @generated")
    assert run("verify").code == 0


def test_outside_a_project_the_first_command_is_named(run: Run) -> None:
    for words in (("lock",), ("sync",), ("verify",), ("list",), ("remove", "net")):
        refused(run(*words), 4, "neither hub.toml nor hub.lock in <project> or above it", "hublock init")


@pytest.mark.parametrize("words", [("sync",), ("update", "net")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_nothing_half_written(
    added: Done, served: Forge, run: Run, project: Path, store: Path, words: tuple[str, ...], number: signal.Signals
) -> None:
    shutil.rmtree(store)
    before = snapshot(project)
    served.serve("https://example.org/net.pth", state_dict(4), stall=10)
    process = subprocess.Popen(
        [sys.executable, "-m", "hublock", *words], cwd=project, env=dict(os.environ), stderr=subprocess.PIPE, text=True
    )
    while not any(request.method == "GET" for request in served.seen("example.org")):
        assert process.poll() is None

    process.send_signal(number)
    # far less than it waits for a host that has fallen silent
    _, err = process.communicate(timeout=8)

    assert process.returncode == 130, err
    assert err == "error: interrupted; nothing was half-written\n"
    assert snapshot(project) == before
    assert not list((store / "v1" / "blobs").rglob("*")) or not [
        p for p in (store / "v1" / "blobs").rglob("*") if p.is_file()
    ]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="where a connection stands is told by Linux alone")
def test_ctrl_c_does_not_wait_for_a_host_that_takes_no_connection(added: Done, project: Path, store: Path) -> None:
    def connecting(port: int) -> int:
        """Return how many wait for the port to answer (proc_pid_net(5): SYN_SENT)."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows)

    with ExitStack() as held:
        full = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = full.getsockname()[1]
        while connecting(port) < 1:
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        ours = connecting(port)
        for path in store.glob("v1/blobs/sha256/*/*"):
            path.unlink()
        environ = {**os.environ, "HUBLOCK_MIRRORS": f"https://=http://127.0.0.1:{port}/"}
        environ["HUBLOCK_CACHE_DIR"] = str(store)
        command = [sys.executable, "-m", "hublock", "sync"]
        process = subprocess.Popen(command, cwd=project, env=environ, stderr=subprocess.PIPE, text=True)
        while connecting(port) == ours:
            assert process.poll() is None

        process.send_signal(signal.SIGINT)
        # it would wait for ten
        _, err = process.communicate(timeout=7)

    assert (process.returncode, err) == (130, "error: interrupted; nothing was half-written\n")
