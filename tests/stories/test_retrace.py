"""``hublock lock --retrace`` beside a manifest that changed in the meantime."""

from pathlib import Path

from tests.forge import Forge
from tests.stories.conftest import Run, state_dict

CHOOSING = """\
dependencies = ["torch"]
import torch


def net(which):
    torch.hub.load_state_dict_from_url(f"https://example.org/{which}.pth", progress=False)
    return torch.nn.Identity()
"""


def edit(project: Path, old: str, new: str) -> None:
    text = (project / "hub.toml").read_text()
    assert old in text
    (project / "hub.toml").write_text(text.replace(old, new))


def test_a_model_with_other_arguments_is_traced_once_and_keeps_no_file_of_the_old_ones(
    forge: Forge, run: Run, project: Path
) -> None:
    forge.repo("someone/chooses", {"hubconf.py": CHOOSING})
    for which in "ab":
        forge.serve(f"https://example.org/{which}.pth", state_dict(2))
    assert run("add", "someone/chooses", "net", "--kwarg", "which=a", "--no-confirm").code == 0
    edit(project, 'which = "a"', 'which = "b"')

    done = run("lock", "--retrace", "net", "--no-confirm")

    assert (done.code, done.err.count("Locked net: net(which='b')")) == (0, 1), done
    lock = (project / "hub.lock").read_text()
    assert ("https://example.org/a.pth" in lock, "https://example.org/b.pth" in lock) == (False, True)
    assert run("lock", "--check").code == 0


def test_a_declared_model_has_the_files_that_are_declared_now(pinned: Forge, project: Path, hub: Run) -> None:
    pinned.serve("https://example.org/other.pth", b"other")
    edit(project, "https://example.org/net.pth", "https://example.org/other.pth")

    done = hub("lock", "--retrace", "net")

    assert (done.code, done.err.count("Locked net: net()")) == (0, 1), done
    assert hub("lock", "--check").code == 0


def test_a_declared_model_takes_the_file_that_is_handed_in_now(pinned: Forge, project: Path, hub: Run) -> None:
    (project / "best.pt").write_bytes(b"a better one")

    assert hub("lock", "--retrace", "net").err.endswith("hub.lock was updated\n")
    assert "size = 12" in (project / "hub.lock").read_text()


def test_a_model_that_gets_another_name_is_not_found_out_again(pinned: Forge, project: Path, hub: Run) -> None:
    before = (project / "hub.lock").read_text()
    edit(project, "[models.net]", '[models.backbone-net]\nentrypoint = "net"')
    assert hub("lock", "--check").code == 1
    asked = len(pinned.requests)

    assert hub("lock").err == "hub.lock was updated\n"

    assert (project / "hub.lock").read_text() == before.replace('name = "net"', 'name = "backbone-net"')
    assert len(pinned.requests) == asked
