"""The main job: add, lock, sync, verify, load."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from tests.forge import Forge
from tests.stories.conftest import HUBCONF, Done, Run, hublock, state_dict

LOAD = """\
import hublock

model = hublock.load("someone/net:v1", "net", pretrained=True)
same = hublock.load("net")
assert (model.layer.weight == same.layer.weight).all()
print(float(model.layer.weight.sum().detach()))
"""


def test_add_says_what_it_locked_and_writes_both_files(added: Done, served: Forge, project: Path) -> None:
    assert str(added) == (
        "exit 0\n--- stdout\n--- stderr\n"
        "   Locked net: net(pretrained=True) of someone/net:v1 at <commit> of 2023-11-14\n"
        "          1 file, 1.8 KiB; traced within <isolation>, confirmed\n"
    )
    assert (project / "hub.toml").read_text() == (
        '[models.net]\nrepo = "someone/net:v1"\nkwargs = { pretrained = true }\n'
    )
    lock = (project / "hub.lock").read_text()
    assert "https://example.org/net.pth" in lock
    assert 'ref = "refs/tags/v1"' in lock
    assert str(project.parent) not in lock
    assert "127.0.0.1" not in lock


def test_elsewhere_sync_verify_and_load_work_from_the_lock(added: Done, run: Run, python: Run, tmp_path: Path) -> None:
    elsewhere = {"HUBLOCK_CACHE_DIR": str(tmp_path / "elsewhere")}

    assert run("verify", **elsewhere).code == 4
    assert str(run("sync", "--locked", **elsewhere)) == (
        "exit 0\n--- stdout\n--- stderr\n"
        "  Fetched 1 tree and 1 file, 1.8 KiB\n"
        "   Synced 1 tree and 1 file of hub.lock\n"
    )
    assert str(run("verify", **elsewhere)) == (
        "exit 0\n--- stdout\n--- stderr\n Verified 1 model, 1 tree, 1 file, 2.3 KiB\n"
    )
    loaded = python(LOAD, HUBLOCK_MIRRORS="", **elsewhere)
    assert loaded.code == 0, loaded


def test_a_second_lock_writes_nothing_and_fetches_nothing(added: Done, run: Run, served: Forge, project: Path) -> None:
    before = (project / "hub.lock").stat()
    asked = len(served.requests)

    assert str(run("lock")) == "exit 0\n--- stdout\n--- stderr\nhub.lock is current\n"
    assert (project / "hub.lock").stat().st_mtime_ns == before.st_mtime_ns
    assert len(served.requests) == asked


def test_any_order_of_add_gives_the_same_bytes(served: Forge, run: Run, project: Path) -> None:
    served.serve("https://example.org/backbone.bin", b"backbone")
    declare = ("--no-trace", "--url", "https://example.org/net.pth")
    adds = [
        ("add", "someone/net", "net", "--name", "wide", "--kwarg", "width=8", *declare),
        ("add", "--url", "https://example.org/backbone.bin", "--name", "backbone"),
        ("add", "Someone/net:v1", "net", "--kwarg", "pretrained=True", *declare),
        ("add", "someone/Net:v1", "net", "--name", "again", *declare),
    ]
    texts = []
    for order in (adds, adds[::-1], [*adds[2:], *adds[:2]]):
        for name in ("hub.toml", "hub.lock"):
            (project / name).unlink(missing_ok=True)
        for words in order:
            assert run(*words).code == 0
        texts.append((project / "hub.lock").read_bytes())

    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "named", ["backbone-0123abcd.bin", "backbone-DIGEST.bin", "backbone-20240131.bin", "backbone-20240131235959.bin"]
)
def test_a_file_whose_name_claims_other_bytes_is_told(
    forge: Forge, hub: Run, project: Path, store: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))
    url = f"https://example.org/{named.replace('DIGEST', hashlib.sha256(b'backbone').hexdigest()[:8])}"
    forge.serve(url, b"backbone")

    done = hub("add", "--url", url, "--name", "backbone")

    claim = f"warning: {url} is named for 0123abcd but hashes to b2e78e3a5bb1d60d…\n"
    assert (done.code, done.err.partition("   Locked")[0]) == (0, claim if "0123abcd" in url else "")


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (b"", "warning: https://example.org/own.bin is empty, and locked as it is\n"),
        (
            b"\n<!DOCTYPE html>\n<title>log in</title>",
            "warning: https://example.org/own.bin answers with a web page, which is locked as it is\n",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "warning: https://example.org/own.bin answers with a Git LFS pointer, which is locked as it is\n",
        ),
        (b"<htmlx", ""),
    ],
    ids=["empty", "page", "pointer", "neither"],
)
def test_a_file_that_is_hardly_meant_is_told(
    forge: Forge, hub: Run, project: Path, store: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, warning: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))
    forge.serve("https://example.org/own.bin", data)
    done = hub("add", "--url", "https://example.org/own.bin", "--name", "own")
    assert (done.code, done.err.partition("   Locked")[0]) == (0, warning)


def test_removing_a_model_takes_it_out_of_both_files(added: Done, run: Run, project: Path) -> None:
    assert str(run("remove", "net")) == "exit 0\n--- stdout\n--- stderr\n  Removed net\n"
    assert (project / "hub.toml").read_text().strip() == ""
    assert "[[repo]]" not in (project / "hub.lock").read_text()
    assert run("verify").code == 0


def test_list_and_help_answer_on_stdout(added: Done, run: Run) -> None:
    assert re.fullmatch(r"net  someone/net:v1 net  [0-9a-f]{12}  1\.8 KiB\n", run("list").out)
    assert run("list", "someone/net:v1").out == "Net(width=4)\nnet(pretrained=False, width=4)  A small network.\n"
    assert run("help", "someone/net:v1", "net").out == (
        "net(pretrained=False, width=4)\n\nA small network.\n\npretrained (bool): load the weights.\n"
    )
    models = json.loads(run("list", "--format", "json").out)["models"]
    assert [(model["name"], model["kwargs"]) for model in models] == [("net", {"pretrained": True})]
    assert json.loads(run("verify", "--format", "json").out)["ok"] is True


def test_a_model_that_fetched_nothing_says_so_and_names_what_may_choose_weights(served: Forge, run: Run) -> None:
    assert run("add", "someone/net", "net").err == (
        "net() initialises at random: its tensors differ from run to run\n"
        "   Locked net: net() of someone/net at <commit> of 2023-11-14\n"
        "          no files; traced within <isolation>, confirmed\n"
        "warning: net() fetched nothing; pretrained may choose weights\n"
        "   hint: hublock remove net, then the same hublock add with --kwarg pretrained=…\n"
    )


def test_a_tampered_weight_is_refused_wherever_it_shows(
    added: Done, served: Forge, run: Run, python: Run, tmp_path: Path
) -> None:
    served.serve("https://example.org/net.pth", state_dict(5))
    replaced = run("sync", HUBLOCK_CACHE_DIR=str(tmp_path / "fresh"))
    assert replaced.code == 3
    assert "https://example.org/net.pth" in replaced.err

    blob = next(
        path
        for path in (tmp_path / "store" / "v1" / "blobs").rglob("*")
        if path.is_file() and path.stat().st_size > 1000
    )
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[-300] ^= 1
    blob.write_bytes(data)

    assert run("verify", "--deep").code == 3
    loaded = python(LOAD)
    assert loaded.code == 1
    assert "DigestMismatch" in loaded.err


def test_a_stale_lock_is_synced_with_a_warning_and_refused_under_locked(added: Done, run: Run, project: Path) -> None:
    manifest = project / "hub.toml"
    manifest.write_text(manifest.read_text() + '\n[weights.extra]\nurl = "https://example.org/extra"\n')

    assert run("sync").err.startswith("warning: hub.lock is stale: weights extra are not locked yet\n")
    for words in (("sync", "--locked"), ("lock", "--check"), ("verify",)):
        done = run(*words)
        assert done.code == 1, done
        assert "hublock lock" in done.err


def test_script_weights_are_locked_under_a_name(served: Forge, run: Run, python: Run) -> None:
    done = run("add", "--url", "https://example.org/net.pth", "--name", "backbone")
    assert str(done) == (
        "exit 0\n--- stdout\n--- stderr\n"
        "   Locked backbone: https://example.org/net.pth\n"
        "          1 file, 1.8 KiB; sha256:<hex>\n"
    )

    script = """\
import hublock
print(sorted(hublock.load_state_dict_from_url("https://example.org/net.pth")))
hublock.download_url_to_file("https://example.org/net.pth", "copy.pth")
try:
    hublock.load_state_dict_from_url("https://example.org/other.pth")
except hublock.errors.UnlockedDownload as error:
    print(error.hint)
"""
    done = python("import hublock.errors, os, sys\nos.chdir(os.path.dirname(__file__))\n" + script)
    assert done.out == (
        "['layer.bias', 'layer.weight']\nhublock add --url https://example.org/other.pth --name NAME\n"
    ), done


def test_both_manifest_homes_work(served: Forge, run: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text('# mine\n[project]\nname = "paper"\n\n[tool.hublock]  # here\n')

    words = ("add", "someone/net:v1", "net", "--no-trace", "--url", "https://example.org/net.pth")
    assert run(*words).code == 0
    text = (project / "pyproject.toml").read_text()
    assert text.startswith('# mine\n[project]\nname = "paper"\n\n[tool.hublock]  # here\n')
    assert '[tool.hublock.models.net]\nrepo = "someone/net:v1"' in text
    assert not (project / "hub.toml").exists()
    assert run("lock", "--check").code == 0

    (project / "pyproject.toml").write_text(text.replace("[tool.hublock]  # here\n", ""))
    assert run("remove", "net").code == 0
    assert run("lock", "--check").code == 0
    assert run(*words).code == 0
    assert not (project / "hub.toml").exists()


def test_an_estimate_of_the_files_needs_no_run(served: Forge, run: Run) -> None:
    assert str(run("list", "someone/net", "--weights")) == (
        "exit 0\n--- stdout\nhttps://example.org/net.pth\n--- stderr\n"
        "an estimate from reading the code: `hublock add` runs it and knows\n"
    )


def test_an_estimate_of_the_files_reads_files_only(project: Path) -> None:
    (project / "hubconf.py").write_text(HUBCONF)
    (project / "gone.py").symlink_to("nowhere.py")
    (project / "folder.py").mkdir()
    (project / "device.py").symlink_to("/dev/zero")
    # a process of its own: one that waits at the pipe does so for good
    os.mkfifo(project / "pipe.py")
    done = hublock("list", ".", "--weights", cwd=project, environ=os.environ)
    assert (done.code, done.out) == (0, "https://example.org/net.pth\n"), done


def test_a_machine_that_only_verifies_imports_neither_torch_nor_the_network(added: Done, python: Run) -> None:
    done = python("""\
import os, sys
os.chdir(os.path.dirname(os.path.abspath(__file__)))
from hublock.cli.main import main
assert main(["verify"]) == 0
heavy = ("torch", "requests", "dulwich", "tomlkit", "numpy", "packaging")
print([name for name in heavy if name in sys.modules])
""")

    assert done.out == "[]\n", done
