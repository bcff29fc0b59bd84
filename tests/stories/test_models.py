"""Models of every kind: moved branches, nested repositories, swallowed errors, pickles, files handed in."""

import pickle
from pathlib import Path

from tests.forge import Forge
from tests.stories.conftest import NET, Run, state_dict


def test_a_pin_does_not_move_with_its_branch(served: Forge, run: Run, project: Path) -> None:
    declare = ("--no-trace", "--url", "https://example.org/net.pth")
    assert run("add", "someone/net", "net", *declare).code == 0
    pinned = (project / "hub.lock").read_text().partition('commit = "')[2][:40]
    repo = served.find_repo("github.com", "someone/net")
    assert repo is not None
    repo.commit({"extra.py": "later = True\n"})

    assert run("lock").err == "hub.lock is current\n"
    assert run("add", "SOMEONE/net", "net", "--name", "again", *declare).code == 0
    assert (project / "hub.lock").read_text().count(f'commit = "{pinned}"') == 1
    assert (project / "hub.lock").read_text().count("commit = ") == 1


def test_a_word_that_is_no_ref_is_an_entry_point_and_add_says_so(served: Forge, run: Run, python: Run) -> None:
    done = run("add", "someone/net:net", "--kwarg", "pretrained=True", "--no-confirm")

    assert done.err == (
        "someone/net has no ref net: taking the entry point net of its default branch\n"
        "   Locked net: net(pretrained=True) of someone/net at <commit> of 2023-11-14\n"
        "          1 file, 1.8 KiB; traced within <isolation>, unconfirmed\n"
    )
    loaded = python("import hublock\nprint(type(hublock.load('someone/net:net')).__name__)")
    assert loaded.out == "Net\n", loaded


NESTING = """\
dependencies = ["torch"]
import torch
globals()["outer"] = lambda: torch.hub.load("someone/net:v1", "net", pretrained=True)
"""


def test_a_nested_repository_and_names_made_at_run_time_are_locked(
    served: Forge, run: Run, python: Run, project: Path, tmp_path: Path
) -> None:
    served.repo("someone/outer", {"hubconf.py": NESTING})

    done = run("add", "someone/outer:outer")

    assert done.code == 0, done
    assert "          loads someone/net:v1, locked with it\n" in done.err
    lock = (project / "hub.lock").read_text()
    assert 'via = ["someone/outer"]' in lock
    assert 'repos = ["someone/net:v1"]' in lock
    assert run("list", "someone/outer").out.startswith("outer()")
    assert run("lock", "--check").code == 0
    # a machine that has traced nothing knows the names that are locked
    elsewhere = str(tmp_path / "elsewhere")
    assert run("sync", HUBLOCK_CACHE_DIR=elsewhere).code == 0
    assert str(run("list", "someone/outer", HUBLOCK_CACHE_DIR=elsewhere)) == (
        "exit 0\n--- stdout\nouter\n--- stderr\n"
        "someone/outer builds entry points at run time and was only read: some may be missing\n"
        "   hint: hublock add someone/outer ENTRYPOINT takes those as well\n"
    )
    assert run("help", "someone/outer", "outer", HUBLOCK_CACHE_DIR=elsewhere).out == "outer\n"
    script = """\
import hublock
print(type(hublock.load('outer')).__name__, hublock.list('someone/outer'), hublock.help('someone/outer', 'outer'))
"""
    loaded = python(script, HUBLOCK_MIRRORS="", HUBLOCK_CACHE_DIR=elsewhere)
    assert loaded.out == "Net ['outer'] None\n", loaded


def test_dependencies_that_hubconf_computes_are_locked_and_checked(
    served: Forge, run: Run, python: Run, project: Path
) -> None:
    served.repo(
        "someone/computes",
        {
            "hubconf.py": 'dependencies = ["torch"] + ["json"]\ndependencies.append("packaging")\n'
            "from os import path\ndef net():\n    return 1\n"
        },
    )
    assert run("add", "someone/computes", "net", "--no-confirm").code == 0
    lock = project / "hub.lock"
    assert 'dependencies = ["torch", "json", "packaging"]' in lock.read_text()
    assert python("import hublock\nprint(hublock.load('net'), hublock.list('someone/computes'))").out == "1 ['net']\n"

    lacks = 'dependencies = ["torch"]\ndependencies.append("not_here_2")\ndef net(): ...\n'
    served.repo("someone/lacks", {"hubconf.py": lacks})
    refused = run("add", "someone/lacks", "net", "--name", "lacks")
    assert (refused.code, refused.err.splitlines()[-1]) == (6, "   hint: pip install not_here_2")

    lock.write_text(lock.read_text().replace('"packaging"', '"not_here_1"'))
    refused = python("import hublock\nhublock.load('net')")
    assert "hint: pip install not_here_1" in refused.err


FALLING_BACK = """\
dependencies = ["torch"]
import torch, urllib.request, socket
def net():
    model = torch.nn.Linear(2, 2)
    try:
        socket.create_connection(("weights.example.org", 443))
    except OSError:
        pass
    return model
"""


def test_a_model_that_would_fall_back_to_random_weights_is_not_locked(served: Forge, run: Run, project: Path) -> None:
    served.repo("someone/falls", {"hubconf.py": FALLING_BACK})

    done = run("add", "someone/falls", "net")

    assert done.code == 6, done
    assert "was refused https://weights.example.org" in done.err
    assert "random weights; nothing was locked" in done.err
    assert list(project.iterdir()) == []


WHOLE = """\
dependencies = ["torch"]
import torch
class Net(torch.nn.Linear):
    pass
def net():
    return torch.hub.load_state_dict_from_url("https://example.org/whole.pth", weights_only=False)
"""


class Marker:
    """Pickles as a call of what the name says."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def test_a_pickle_that_names_more_than_tensors_needs_consent(served: Forge, run: Run, project: Path) -> None:
    served.repo("someone/whole", {"hubconf.py": WHOLE})
    served.serve("https://example.org/whole.pth", checkpoint_of_options())

    refused = run("add", "someone/whole", "net")
    assert refused.code == 6, refused
    assert refused.err == (
        "error: https://example.org/whole.pth would run argparse.Namespace when it is unpickled\n"
        "   hint: hublock add someone/whole net --allow-pickle, if you trust its author; where the manifest has "
        '[models.net] already, write allow-pickle = ["argparse.Namespace"] there\n'
    )
    assert list(project.iterdir()) == []

    agreed = run("add", "someone/whole", "net", "--allow-pickle", "--no-confirm")
    assert agreed.code == 0, agreed
    assert "          net may unpickle argparse.Namespace\n" in agreed.err
    assert 'allow-pickle = ["argparse.Namespace"]' in (project / "hub.toml").read_text()
    assert run("lock", "--check").code == 0


def test_an_execution_primitive_is_refused_even_with_consent(served: Forge, run: Run, project: Path) -> None:
    served.repo("someone/whole", {"hubconf.py": WHOLE})
    served.serve("https://example.org/whole.pth", pickle.dumps(Marker(eval, "1")))

    done = run("add", "someone/whole", "net", "--allow-pickle")

    assert done.code == 6, done
    assert "https://example.org/whole.pth would run builtins.eval when it is unpickled" in done.err
    assert 'allow-pickle = ["builtins.eval"]' in done.err
    assert list(project.iterdir()) == []


CUSTOM = """\
dependencies = ["torch"]
import torch
from net import Net
def custom(path):
    model = Net()
    model.load_state_dict(torch.load(path))
    return model
"""


def test_a_file_that_the_user_hands_in_is_locked_by_its_digest(
    served: Forge, run: Run, python: Run, project: Path
) -> None:
    served.repo("someone/custom", {"hubconf.py": CUSTOM, "net.py": NET})
    (project / "best.pt").write_bytes(state_dict(4))

    done = run("add", "someone/custom", "custom", "--kwarg", "path=best.pt", "--input", "best.pt")
    assert done.code == 0, done

    script = "import hublock, os\nos.chdir(os.path.dirname(os.path.abspath(__file__)))\nhublock.load('custom')\n"
    assert python(script).code == 0
    (project / "best.pt").write_bytes(state_dict(5))
    refused = python(script)
    assert refused.code == 1
    assert "UnlockedDownload" in refused.err, refused
    assert "; hublock lock --retrace NAME, if it is the input of a locked model and was changed" in refused.err

    told = run("verify")
    assert str(told) == (
        "exit 1\n--- stdout\n--- stderr\n"
        "error: <project>/best.pt is not the locked input of model custom\n"
        "   hint: put the locked file there, or lock this one: hublock lock --retrace custom\n"
    )
    import torch

    torch.save({"layer.weight": torch.zeros(2, 4), "layer.bias": torch.zeros(2)}, project / "best.pt")
    assert run("verify").code == 1
    assert run("lock", "--retrace", "custom").code == 0
    # with the state of the new file
    assert run("verify", "--load", "custom").code == 0
    (project / "best.pt").unlink()
    assert run("verify").code == 0


def checkpoint_of_options() -> bytes:
    import argparse
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(argparse.Namespace(a=1), buffer)
    return buffer.getvalue()


LYING = """\
import gc, os
def net():
    from hublock.runtime.tracing.wire import Channel
    gc.unfreeze()
    line = next(found for found in gc.get_objects() if type(found) is Channel)
    said = {
        "state": None, "traced_with": ["\\ud800"], "isolation": "guard", "entrypoints": [], "dependencies": [],
        "refusals": [],
    }
    line.send({"done": said})
    os._exit(0)
"""


def test_what_no_lock_can_hold_leaves_both_files_as_they_were(forge: Forge, run: Run, project: Path) -> None:
    forge.repo("someone/lying", {"hubconf.py": LYING})
    (project / "hub.toml").write_text("# mine\n")

    done = run("add", "someone/lying", "net")

    assert done.code == 6, done
    assert "error: what was traced cannot be recorded: " in done.err
    assert (project / "hub.toml").read_text() == "# mine\n"
    assert not (project / "hub.lock").exists()


def test_a_files_own_pickle_needs_consent_as_a_models_does(forge: Forge, run: Run, project: Path) -> None:
    url = "https://example.org/own.pth"
    add = ("add", "--url", url, "--name", "own")
    forge.serve(url, pickled("os", "system"))
    dangerous = run(*add, "--allow-pickle")
    assert (dangerous.code, list(project.iterdir())) == (6, [])
    assert 'hint: do not load it; whoever must writes allow-pickle = ["os.system"] under [weights.own]' in dangerous.err

    forge.serve(url, pickled("argparse", "Namespace"))
    refused = run(*add)
    assert (refused.code, list(project.iterdir())) == (6, [])
    assert (
        f"{url} would run argparse.Namespace when it is unpickled\n   hint: hublock {' '.join(add)} --allow-pickle"
        in (refused.err)
    )
    agreed = run(*add, "--allow-pickle")
    assert agreed.code == 0, agreed
    assert "own may unpickle argparse.Namespace" in agreed.err
    manifest = project / "hub.toml"
    assert 'allow-pickle = ["argparse.Namespace"]' in manifest.read_text()

    locked = (project / "hub.lock").read_text()
    manifest.write_text(manifest.read_text().replace('"argparse.Namespace"', ""))
    assert "weights own need consent to the pickle globals argparse.Namespace" in run("lock", "--check").err
    forge.serve(url, pickled("fractions", "Fraction"))
    assert (run("lock").code, (project / "hub.lock").read_text()) == (6, locked)
    refused = run("update", "own")
    written = 'allow-pickle = ["fractions.Fraction"]'
    assert refused.code == 6
    assert f"where the manifest has [weights.own] already, write {written} there" in refused.err
    manifest.write_text(manifest.read_text().replace("allow-pickle = []", written))
    assert run("update", "own").code == 0


def pickled(module: str, name: str) -> bytes:
    """A checkpoint whose pickle names one global and calls it."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x01\x00\x00\x00a\x85R."
