"""The words of the command line: what it takes, what it refuses, and that its hints lead to what helps."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from hublock import __version__, use
from hublock.errors import NotLocked
from hublock.runtime.tracing.parent import DEFAULT_TIMEOUT
from tests.forge import Forge
from tests.stories.conftest import NET, PLAIN, Done, Run, state_dict


def refused(done: Done, code: int, error: str, hint: str) -> None:
    assert (done.code, done.out, done.err) == (code, "", f"error: {error}\n   hint: {hint}\n")


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("ad", "a/b", "net"), "there is no command ad; did you mean add?", "hublock --help"),
        (
            ("sync", "--lock"),
            "hublock sync: unexpected argument --lock; did you mean --locked?",
            "hublock sync --help",
        ),
        (("remove", "net", "big"), "hublock remove: unexpected argument big", "hublock remove --help"),
        (("sync", "--format=xml"), "hublock sync: unexpected argument --format=xml", "hublock sync --help"),
        (("remove", "net", ""), "hublock remove: unexpected empty argument", "hublock remove --help"),
        (
            ("add", "a/b", "net", "--kwarg"),
            "hublock add: argument --kwarg: expected one argument",
            "hublock add --help",
        ),
        (("list", "--format=xml"), None, "hublock list --help"),
        (
            ("list", "--project", "hub.tomll"),
            "the project folder <project>/hub.tomll does not exist; did you mean hub.toml?",
            "name the folder <project>",
        ),
        (("remove",), "hublock remove: the following arguments are required: NAME", "hublock remove --help"),
        (("remove", ""), "hublock remove: argument NAME: it is empty", "hublock remove --help"),
        (("diff", ""), "hublock diff: argument GIT-REV|FILE: it is empty", "hublock diff --help"),
        (("list", "--project", ""), "hublock list: argument --project: it is empty", "hublock list --help"),
        (("cache", "purge"), None, "hublock cache --help"),
        (
            ("lock", "net"),
            "lock locks all that the manifest wants, not net alone",
            "hublock lock; --retrace net for a locked model, -- before a program to record",
        ),
        (
            ("add", "--url", "https://example.org/x"),
            "--url needs a name for the file",
            "hublock add --url https://example.org/x --name NAME",
        ),
        (
            ("lock", "--timeout", "5", "--check", "--", "python"),
            "--check and a command to run do not go together",
            "hublock lock -- COMMAND ARG…",
        ),
        (
            ("lock", "--check", "--retrace", "net"),
            "--check changes nothing, so --retrace has no effect beside it",
            "hublock lock --check",
        ),
        (
            ("help", "nett"),
            "nett is neither a locked model nor a repository nor a command; did you mean net?",
            "hublock list, or hublock --help",
        ),
        (("help", "someone/net", ""), "hublock help: argument ENTRYPOINT: it is empty", "hublock help --help"),
        (("help", "someone/net"), "which entry point of someone/net?", "hublock list someone/net"),
        (("bundle", "-"), "a bundle is written to a file, not to the standard output", "hublock bundle OUT.tar"),
    ],
)
def test_refuses_words_in_one_voice(
    pinned: Forge, hub: Run, words: tuple[str, ...], error: str | None, hint: str
) -> None:
    done = hub(*words)
    if error is None:
        assert (done.code, done.err.endswith(f"   hint: {hint}\n")) == (2, True), done
    else:
        refused(done, 2, error, hint)


def test_help_knows_commands_and_locked_models(pinned: Forge, hub: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert hub("help", "update").out.startswith("usage: hublock update ")
    assert hub("help").out.startswith("usage: hublock ")
    assert hub("help", "cache", "prune").out.startswith("usage: hublock cache prune ")
    assert hub("help", "net").out == hub("help", "a/tagged:v1", "net").out == "net(pretrained=False)\n"


def test_options_of_every_command_stand_before_or_behind_it(pinned: Forge, hub: Run, project: Path) -> None:
    told = hub("list", "--project", str(project))
    assert told.out
    assert hub("--project", str(project), "-q", "list") == hub("list", "-q") == told
    assert hub("-q", "cache", "verify").err == hub("cache", "verify", "-q").err == ""
    assert hub("cache", "verify").err


def test_a_hint_names_the_project_that_was_named(hub: Run, project: Path, tmp_path: Path) -> None:
    (project / "hub.toml").write_text('[weights.x]\nurl = "https://example.org/x"\n')
    refused(
        hub("verify", "--project", str(project)),
        4,
        "<project>/hub.lock does not exist",
        "hublock lock --project <project>",
    )
    bare = tmp_path / "not yet"
    bare.mkdir()
    hint = f"hublock init --project '{bare}'"
    refused(hub("list", "--project", str(bare)), 4, f"neither hub.toml nor hub.lock in {bare}", hint)


def test_a_hint_names_a_project_whatever_its_name(hub: Run, tmp_path: Path) -> None:
    for name in (r"a\\dir", r"b\\1", r"\\U"):
        (tmp_path / name).mkdir()
        assert hub("list", "--project", str(tmp_path / name)).err.endswith(f"{name}'\n")


def test_true_is_no_one(pinned: Forge, hub: Run) -> None:
    again = (
        "add",
        "b/branch",
        "big",
        "--name",
        "wide",
        "--no-trace",
        "--url",
        "https://example.org/big.pth",
        "--kwarg",
    )
    assert hub(*again, "k=1").code == 0
    assert hub(*again, "k=1").err == "hub.toml and hub.lock have that already\n"
    assert hub(*again, "k=true").err.startswith("error: <project>/hub.toml already has another wide\n")


def test_consent_to_what_the_manifest_has_already_is_written_there(forge: Forge, run: Run, project: Path) -> None:
    odd = b"\x80\x02codd.module\nKind\n."
    forge.serve("https://example.org/odd.pth", odd)
    forge.repo("someone/odd", {"hubconf.py": PLAIN.replace("NAME", "odd")}).tag("v1")
    (project / "hub.toml").write_text(
        '[models.odd]  # mine\nrepo = "someone/odd:v1"\nurls = ["https://example.org/odd.pth"]\n\n'
        '[weights.w]\nurl = "https://example.org/odd.pth"\n'
    )
    refused = run("lock")
    assert (refused.code, "odd.module.Kind" in refused.err) == (6, True), refused
    words = ("add", "someone/odd:v1", "odd", "--no-trace", "--url", "https://example.org/odd.pth", "--allow-pickle")
    assert run(*words).code == 0
    assert (project / "hub.toml").read_text().count('allow-pickle = ["odd.module.Kind"]') == 2
    assert "[models.odd]  # mine" in (project / "hub.toml").read_text()
    assert run("lock", "--check").code == run("verify").code == 0


def test_the_same_add_twice_changes_nothing(pinned: Forge, project: Path, hub: Run) -> None:
    before = {path.name: path.read_bytes() for path in project.iterdir()}
    again = ("add", "b/branch", "big", "--no-trace", "--url", "https://example.org/big.pth")
    for words in (again, ("add", "--url", "https://example.org/backbone.bin", "--name", "backbone")):
        assert hub(*words) == Done("", "hub.toml and hub.lock have that already\n", 0)
    assert {path.name: path.read_bytes() for path in project.iterdir()} == before
    assert "is there twice" in hub("add", "a/tagged:v1", "other", "other").err


def test_a_manifest_without_a_lock_leads_to_hublock_lock(pinned: Forge, project: Path, hub: Run) -> None:
    (project / "hub.lock").unlink()
    assert hub("list").err == "nothing is locked yet\n   hint: hublock lock\n"
    for words in (("update", "net"), ("cache", "key"), ("outdated",)):
        refused(hub(*words), 4, "<project>/hub.lock does not exist", "hublock lock")


def test_a_lock_without_a_manifest_is_not_called_current(pinned: Forge, project: Path, hub: Run) -> None:
    (project / "hub.toml").unlink()
    assert hub("verify").err.startswith(
        "warning: <project> holds no hub.toml: whether hub.lock answers it was not checked\n"
    )
    assert hub("sync").code == 0
    done = hub("sync", "--locked")
    assert (done.code, done.err.startswith("error: <project> holds no hub.toml beside its hub.lock\n")) == (4, True)


def test_another_lock_that_is_not_there_is_no_reason_to_lock(pinned: Forge, project: Path, hub: Run) -> None:
    refused(hub("verify", "--against", "nope.lock"), 4, "nope.lock does not exist", "check the path of --against")
    refused(hub("cache", "prune", "--keep-lock", "nope"), 4, "nope does not exist", "check the path of --keep-lock")
    refused(hub("verify", "--against", "."), 2, ". is a folder, not a lock", "name hub.lock")


def test_a_folder_in_place_of_the_lock_is_not_looked_into(hub: Run, project: Path, store: Path) -> None:
    (project / "hub.lock").mkdir()
    hint = "put a text file in its place"
    for verb in ("sync", "verify"):
        refused(hub(verb, "--project", str(project)), 2, "<project>/hub.lock is not a file", hint)


def test_a_folder_in_place_of_the_manifest_is_none(hub: Run, project: Path, store: Path) -> None:
    (project / "hub.toml").mkdir()
    for verb in ("init", "lock"):
        done = hub(verb, "--project", str(project))
        refused(done, 2, "<project>/hub.toml is not a file", "put a text file in its place")


def test_a_script_that_is_not_there_is_named_before_anything_runs(pinned: Forge, hub: Run) -> None:
    said, hint = "there is no script no file.py", "hublock lock -- python SCRIPT ARG…"
    refused(hub("lock", "--", "python", "no file.py"), 2, said, hint)
    refused(hub("run", "no file.py"), 2, said, "hublock run SCRIPT ARG…, or hublock run -m MODULE ARG…")


def test_an_input_that_is_not_there_is_not_to_be_copied(pinned: Forge, hub: Run, project: Path) -> None:
    words = "add", "a/tagged:v1", "net", "--name", "other", "--no-trace", "--url", "https://example.org/net.pth"
    hint = "put the file there, or name another"
    refused(hub(*words, "--input", "/nope"), 2, "the input /nope does not exist", hint)
    refused(hub(*words, "--input", "../.."), 2, "the input ../.. is not a file", hint)
    refused(hub(*words, "--input", "nope"), 2, "the input <project>/nope of model other does not exist", hint)
    (project.parent / "here").touch()
    told = "the input ../here lies outside the project <project>"
    refused(hub(*words, "--input", "../here"), 2, told, "copy it into <project>")


def test_what_holds_nothing_is_no_choice(pinned: Forge, hub: Run) -> None:
    for words in (("lock", "--retrace", ""), ("add", "a/tagged:v1", "net", "--input", "")):
        verb, option = words[0], words[-2]
        refused(hub(*words), 2, f"hublock {verb}: argument {option}: it is empty", f"hublock {verb} --help")


def test_where_the_folder_of_settings_is_a_file_there_are_none(pinned: Forge, run: Run, project: Path) -> None:
    assert run("verify", XDG_CONFIG_HOME=str(project / "hub.toml")).code == 0


def test_update_is_no_advice_for_what_is_not_locked(pinned: Forge, run: Run) -> None:
    url = "https://example.org/gone.pth"
    refused(run("add", "--url", url, "--name", "gone"), 5, f"{url} does not exist (404)", "check the address")
    done = run("add", f"b/branch:{'1' * 40}", "big", "--name", "other", "--allow-unreachable")
    refused(done, 2, "b/branch has no commit <hex>, or no longer", "check the commit id")


@pytest.mark.parametrize("words", [("add",), ("lock",), ("sync",), ("cache", "prune"), ("cache", "dir")])
def test_help_begins_as_a_sentence_and_names_the_defaults(hub: Run, words: tuple[str, ...]) -> None:
    told = hub(*words, "--help").out
    assert re.search(r"^[A-Z][^\n]*\.$", told, re.MULTILINE)
    if "--timeout" in told:
        assert f"(default: {DEFAULT_TIMEOUT:.0f})" in " ".join(told.split())


@pytest.mark.parametrize(
    ("words", "meant"),
    [(("list", "--format", "jsn"), "json"), (("list", "--format", "xml"), ""), (("cache", "lst"), "list")],
)
def test_a_choice_that_is_none_is_told_of_with_the_nearest(hub: Run, words: tuple[str, ...], meant: str) -> None:
    error = hub(*words).err.splitlines()[0]
    assert "invalid choice" in error
    assert error.partition("; did you mean ")[2] == (f"{meant}?" if meant else "")


def test_the_version_is_told_by_the_letter_that_uv_and_cargo_have_for_it(hub: Run) -> None:
    assert hub("-V") == hub("--version") == Done(f"hublock {__version__}\n", "", 0)


def test_diff_says_what_it_lacks(pinned: Forge, project: Path, hub: Run) -> None:
    refused(hub("diff"), 2, "<project> is in no git repository", "hublock diff OTHER.lock")
    absent = "old.lock is no file, and <project> is in no git repository"
    refused(hub("diff", "old.lock"), 2, absent, "hublock diff OTHER.lock")
    subprocess.run(["git", "init", "--quiet", str(project)], check=True)
    refused(hub("diff"), 2, "the git repository of <project> has no commit yet", "hublock diff OTHER.lock")


def test_init_says_what_it_does_to_a_project_around(pinned: Forge, project: Path, hub: Run) -> None:
    inner = project / "inner"
    refused(
        hub("init", "--project", str(inner)), 2, "the project folder <project>/inner does not exist",
        "mkdir -p <project>/inner",
    )  # fmt: skip
    inner.mkdir()
    assert (
        "warning: <project> is a project too: below <project>/inner, commands use this one now\n"
        in hub("init", "--project", str(inner)).err
    )
    subprocess.run(["git", "init", "--quiet", str(project)], check=True)
    (project / "hub.toml").unlink()
    assert "is a project too" not in hub("init").err
    (project / "hub.toml").unlink()
    assert hub("init", "--merge-driver").code == 0
    assert not (project / "hub.toml").exists()


def test_outdated_reads_the_manifest_before_it_says_that_all_is_well(pinned: Forge, project: Path, hub: Run) -> None:
    (project / "hub.toml").write_text("[models\n")
    done = hub("outdated", "--format", "json")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: <project>/hub.toml: ")


def test_who_asked_for_no_weights_is_not_warned_that_there_are_none(served: Forge, run: Run, project: Path) -> None:
    done = run("add", "someone/net", "net", "--kwarg", "pretrained=false", "--no-confirm")
    assert (done.code, "fetched nothing" in done.err) == (0, False)


def test_run_finds_the_project_of_its_script(added: Done, run: Run, project: Path, tmp_path: Path) -> None:
    (project / "script.py").write_text(
        "import torch.hub\nprint(type(torch.hub.load('someone/net:v1', 'net')).__name__)\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = run("run", str(project / "script.py"), cwd=elsewhere)
    assert (done.code, done.out) == (0, "Net\n"), done


def test_an_entry_point_of_an_update_is_told_with_its_commit(pinned: Forge, hub: Run) -> None:
    tagged = pinned.find_repo("github.com", "b/branch")
    assert tagged is not None
    tagged.commit({"hubconf.py": None, "other.py": PLAIN})
    assert "b/branch at <commit> has no hubconf.py" in hub("update", "big").err
    assert json.loads(hub("outdated", "--format", "json").out)["repositories"]


RANDOM_HEAD = """
import torch
from net import Net
def backbone(pretrained=False):
    torch.hub.load_state_dict_from_url("https://example.org/net.pth", progress=False)
    return Net()
"""


def test_who_may_have_forgotten_some_weights_is_told_so(served: Forge, run: Run) -> None:
    served.repo("someone/head", {"hubconf.py": RANDOM_HEAD, "net.py": NET})
    done = run("add", "someone/head", "backbone")
    assert done.code == 0, done
    assert "warning: backbone() is not the same whenever it is loaded; pretrained may choose weights\n" in done.err
    assert "   hint: hublock remove backbone, then the same hublock add with --kwarg pretrained=…\n" in done.err


NO_TENSORS = """
import torch
def labels(pretrained=True):
    return sorted(torch.hub.load_state_dict_from_url("https://example.org/net.pth", progress=False))
"""


def test_who_loads_what_holds_no_tensors_is_not_told_that_it_is_random(served: Forge, run: Run) -> None:
    served.repo("someone/labels", {"hubconf.py": NO_TENSORS})
    done = run("add", "someone/labels", "labels")
    assert done.code == 0, done
    assert "warning" not in done.err and "hint" not in done.err, done


READS = """
import os
def custom(path):
    if not os.path.exists(path):
        raise FileNotFoundError(f"no {path}; try force_reload=True")
    return open(path).read()
"""


def test_a_file_that_was_not_handed_in_is_named(forge: Forge, run: Run, project: Path) -> None:
    forge.repo("someone/reads", {"hubconf.py": READS})
    (project / "best.txt").write_text("mine")
    add = ("add", "someone/reads", "custom", "--kwarg", "path=best.txt")

    done = run(*add)
    assert done.code == 6, done
    assert "raised FileNotFoundError: no best.txt" in done.err
    assert (
        "hint: hublock add someone/reads custom … --input best.txt, if it reads that file of yours; where the manifest "
        'has [models.custom] already, write inputs = ["best.txt"] there\n'
    ) in done.err
    done = run(*add, "--input", "best.txt", "--no-confirm")
    assert done.code == 0, done
    assert "          1 input, 4 B; traced within <isolation>, unconfirmed\n" in done.err
    assert run("list").out.endswith("  4 B\n")
    [model] = json.loads(run("list", "--format", "json").out)["models"]
    assert (model["size"], model["weights"], model["hf"]) == (4, [], [])
    assert [(row["name"], row["size"]) for row in model["inputs"]] == [("best.txt", 4)]


READS_BESIDE = """
def plain():
    return open("best.txt").read()
"""


def test_a_file_that_lies_in_the_current_folder_is_named(forge: Forge, run: Run, project: Path) -> None:
    forge.repo("someone/beside", {"hubconf.py": READS_BESIDE})
    add = ("add", "someone/beside", "plain")
    done = run(*add)
    assert done.code == 6 and "--input" not in done.err, done
    (project / "best.txt").write_text("mine")
    done = run(*add)
    assert done.code == 6, done
    assert "hint: hublock add someone/beside plain --input best.txt, if it reads that file of yours; " in done.err
    assert run(*add, "--input", "best.txt").code == 0


WRITES_ELSEWHERE = """
import os, torch
def net(pretrained=True):
    if not os.path.isfile({path!r}):
        torch.hub.download_url_to_file("https://example.org/net.pth", {path!r})
    return torch.load({path!r})
"""


def test_who_writes_where_a_trace_may_not_is_told_how_to_lock_without_one(
    served: Forge, run: Run, project: Path
) -> None:
    hubconf = WRITES_ELSEWHERE.format(path="/var/tmp/hublock-net.pth")
    served.repo("someone/writes", {"hubconf.py": hubconf})
    done = run("add", "someone/writes", "net")
    assert done.code == 6 and "raised PermissionError: " in done.err, done
    assert (
        "hint: hublock add someone/writes net --no-trace --url URL for each file, as a trace writes only in folders of "
        "its own; where the manifest has [models.net] already, write urls = [...] there\n"
    ) in done.err
    assert run("add", "someone/writes", "net", "--no-trace", "--url", "https://example.org/net.pth").code == 0


ASKS = """
import socket
try:
    socket.getaddrinfo("api.example.org", 443)
except OSError:
    pass
import torch
class Net(torch.nn.Module):
    pass
"""


def test_what_a_model_may_live_without_holds_wherever_it_is_unpickled(
    forge: Forge, run: Run, python: Run, project: Path
) -> None:
    forge.repo("someone/asks", {"hubconf.py": "from net import Net\ndef asks():\n    return Net()\n", "net.py": ASKS})
    forge.serve("https://example.org/net.pth", state_dict(4))
    what = "https://api.example.org"
    declare = ("add", "someone/asks", "asks", "--no-trace", "--url", "https://example.org/net.pth")
    assert run(*declare, "--tolerate", what).code == 0
    assert f'tolerated = ["{what}"]' in (project / "hub.lock").read_text()

    whole = str(project / "whole.pt")
    done = python(f"import hublock, torch\ntorch.save(hublock.load('asks'), {whole!r})")
    assert (done.code, done.err) == (0, ""), done
    done = python(f"import torch\nprint(type(torch.load({whole!r}, weights_only=False)).__name__)")
    assert (done.code, done.out, done.err) == (0, "Net\n", ""), done

    manifest = project / "hub.toml"
    manifest.write_text("\n".join(line for line in manifest.read_text().split("\n") if "tolerate" not in line))
    assert "asks is locked with other declared refusals" in run("lock", "--check").err
    assert run("lock").err.endswith("hub.lock was updated\n")
    assert python("import hublock\nhublock.load('asks')").code == 1


def test_a_lock_that_was_not_there_was_created(project: Path, run: Run) -> None:
    (project / "hub.toml").write_text("")
    assert run("lock").err.endswith("hub.lock was created\n")
    assert run("lock").err.endswith("hub.lock is current\n")


def test_a_lock_to_use_that_is_not_there_is_no_reason_to_lock(tmp_path: Path) -> None:
    with pytest.raises(NotLocked) as caught:
        use(tmp_path)
    assert caught.value.message == f"{tmp_path}/hub.lock does not exist"
    assert caught.value.hint == "name a project folder that holds hub.lock, or the file itself"


def test_outdated_names_the_command_that_shows_what_would_move(pinned: Forge, hub: Run) -> None:
    tagged = pinned.find_repo("github.com", "a/tagged")
    assert tagged is not None
    tagged.commit({"new.txt": "new"})
    tagged.git("tag", "--force", "v1", "main")

    hint = hub("outdated").err.removeprefix("   hint: hublock ").rstrip("\n")

    assert hint == "update a/tagged:v1 --dry-run --allow-rewritten"
    assert hub(*hint.split()).code == 0
