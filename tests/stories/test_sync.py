"""Fetching what a lock names: how many at once, and from where."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hublock.net import retry
from tests.forge import Forge
from tests.net.wire import Wire, ok
from tests.stories.conftest import PLAIN, Run

URLS = [f"https://example.org/{number}.bin" for number in range(8)]
MANIFEST = "".join(f'[weights.w{number}]\nurl = "{url}"\n' for number, url in enumerate(URLS))
URL = URLS[0]


@pytest.fixture
def locked(forge: Forge, run: Run, project: Path) -> Path:
    """A project that locks eight files."""
    for number, url in enumerate(URLS):
        forge.serve(url, b"%d" % number * 1000)
    (project / "hub.toml").write_text(MANIFEST)
    assert run("lock").code == 0
    return project


def test_a_file_that_is_gone_at_one_address_is_fetched_from_another(
    forge: Forge, run: Run, project: Path, tmp_path: Path
) -> None:
    urls = [f"https://{host}.example.org/same.bin" for host in ("a", "b")]
    for name, url in zip("ab", urls, strict=True):
        forge.serve(url, b"same")
        assert run("add", "--url", url, "--name", name).code == 0
    forge.serve(urls[0], status=404)

    done = run("sync", HUBLOCK_CACHE_DIR=str(tmp_path / "elsewhere"))

    assert done.code == 0, done
    assert f"warning: {urls[0]} failed, asking {urls[1]}: " in done.err
    assert done.err.endswith("  Fetched 0 trees and 1 file, 4 B\n   Synced 0 trees and 1 file of hub.lock\n")


def test_a_tree_that_is_gone_from_one_repository_is_fetched_from_another(
    forge: Forge, run: Run, project: Path, tmp_path: Path
) -> None:
    repos = [forge.repo(f"{owner}/same", {"hubconf.py": PLAIN}) for owner in ("a", "b")]
    forge.serve(URL, b"weights")
    for repo in repos:
        words = ("add", repo.name, "NAME", "--name", repo.name[0], "--no-trace", "--url", URL)
        assert run(*words).code == 0
    there = {"HUBLOCK_CACHE_DIR": str(tmp_path / "elsewhere")}

    for repo in repos:
        repo.token = "private"
    neither = run("sync", **there)
    repos[1].token = None
    one = run("sync", **there)

    assert (neither.code, neither.err.count("error: github.com does not show b/same")) == (2, 1), neither
    assert one.code == 0, one
    assert one.err.startswith("warning: a/same failed, asking b/same: github.com does not show a/same")
    assert one.err.endswith("  Fetched 1 tree and 1 file, 7 B\n   Synced 1 tree and 1 file of hub.lock\n")
    repos[0].token, repos[1].token = None, "private"
    other = run("sync", HUBLOCK_CACHE_DIR=str(tmp_path / "other"))
    assert (other.code, "warning" in other.err) == (0, False), other


class Counting:
    """Serves the files, and counts how many at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.guard = threading.Lock()

    def reply(self, head: bytes) -> Iterator[bytes]:
        with self.guard:
            self.now += 1
            self.most = max(self.most, self.now)
        # as long as a fourth one may take to come
        threading.Event().wait(0.15)
        with self.guard:
            self.now -= 1
        number = head.split(b".bin")[0][-1:]
        yield ok(number * 1000)


@pytest.mark.parametrize(
    ("jobs", "environ", "most"),
    [(["--jobs", "2"], {"HUBLOCK_JOBS": "8"}, 2), ([], {"HUBLOCK_JOBS": "3"}, 3), ([], {}, 8)],
)
def test_jobs_says_how_many_files_come_at_once(
    locked: Path, run: Run, tmp_path: Path, jobs: list[str], environ: dict[str, str], most: int
) -> None:
    counting = Counting()
    with Wire(counting.reply) as wire:
        there = {"HUBLOCK_CACHE_DIR": str(tmp_path / "elsewhere"), "HUBLOCK_MIRRORS": f"https://={wire.url}"}
        done = run("sync", *jobs, **there, **environ)
    assert done.code == 0, done
    assert 1 < counting.most <= most
    assert most == 8 or counting.most == most


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5", ""])
def test_refuses_a_number_of_jobs_that_is_none(locked: Path, run: Run, jobs: str) -> None:
    done = run("sync", f"--jobs={jobs}")
    assert (done.code, "is not a whole number from 1 to 9999" in done.err) == (2, True)


def configure(clean_environment: Path, text: str) -> Path:
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "hublock"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)
    return folder / "config.toml"


def test_mirrors_may_stand_in_the_config_file(
    locked: Path, run: Run, forge: Forge, tmp_path: Path, clean_environment: Path
) -> None:
    configure(clean_environment, f'[mirrors]\n"https://" = "{forge.url}"\n')
    before, lock = len(forge.requests), (locked / "hub.lock").read_text()
    done = run("sync", HUBLOCK_CACHE_DIR=str(tmp_path / "elsewhere"), HUBLOCK_MIRRORS="")
    assert done.code == 0, done
    assert len(forge.requests) == before + len(URLS)
    assert (locked / "hub.lock").read_text() == lock
    assert "127.0.0.1" not in lock


def test_the_environment_overrides_the_config_file(
    locked: Path, run: Run, forge: Forge, tmp_path: Path, clean_environment: Path
) -> None:
    configure(clean_environment, '[mirrors]\n"https://" = "http://127.0.0.1:9/"\n')
    done = run("sync", HUBLOCK_CACHE_DIR=str(tmp_path / "elsewhere"))
    assert done.code == 0, done


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mirrors\n", "config.toml: line 1, column 9: not valid TOML"),
        ('[mirror]\n"https://a/" = "https://b/"\n', "config.toml: mirror: unknown key; did you mean mirrors?\n"),
        ("mirrors = 3\n", "config.toml: mirrors: expected a table, found an integer\n"),
        ("[mirrors]\na = 1\n", "config.toml: mirrors.a: expected a string, found an integer\n"),
        ("mirrors = " + "[" * 5000, "config.toml: line 1: nests deeper than 32 levels\n"),
        ("[mirrors]\na = 'b'\n", "config.toml does not map an http(s) address to another\n"),
        (None, "config.toml is not a file\n"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_named(
    project: Path, run: Run, clean_environment: Path, text: str | None, said: str
) -> None:
    path = configure(clean_environment, text or "")
    if text is None:
        path.unlink()
        path.mkdir()
    done = run("cache", "dir")
    assert (done.code, said in done.err) == (2, True), done


def mirrored(forge: Forge, mirror: str) -> str:
    """Ask ``mirror`` for example.org first, then the origin, which the forge stands for."""
    return f"https://example.org/={mirror} {forge.mirrors}"


def test_a_dead_mirror_falls_back_to_the_origin_and_says_so(
    locked: Path, run: Run, forge: Forge, tmp_path: Path
) -> None:
    lock = (locked / "hub.lock").read_text()
    there = {"HUBLOCK_CACHE_DIR": str(tmp_path / "elsewhere")}
    done = run("sync", HUBLOCK_MIRRORS=mirrored(forge, "http://127.0.0.1:9/dead/"), **there)
    assert done.code == 0, done
    assert done.err.count("warning: mirror http://127.0.0.1:9/dead/") == len(URLS)
    assert f"{URL} cannot be reached by its mirror http://127.0.0.1:9/dead/0.bin: Connection refused" in done.err
    assert run("verify", "--deep", **there).code == 0
    assert (locked / "hub.lock").read_text() == lock


def test_a_lying_mirror_falls_back_to_the_origin_and_says_so(
    locked: Path, run: Run, forge: Forge, tmp_path: Path
) -> None:
    for number in range(len(URLS)):
        forge.serve(f"https://mirror.lan/{number}.bin", b"x" * 1000)
    there = {"HUBLOCK_CACHE_DIR": str(tmp_path / "elsewhere")}
    done = run("sync", HUBLOCK_MIRRORS=mirrored(forge, forge.url + "mirror.lan/"), **there)
    assert done.code == 0, done
    assert done.err.count(f"warning: mirror {forge.url}mirror.lan/") == len(URLS)
    assert f"{URL} serves bytes of sha256:<hex>, not of the locked sha256:<hex>" in done.err
    assert run("verify", "--deep", **there).code == 0


def test_a_lying_mirror_is_an_integrity_failure_where_the_origin_is_dead(
    locked: Path, run: Run, hub: Run, forge: Forge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(len(URLS)):
        forge.serve(f"https://mirror.lan/{number}.bin", b"x" * 1000)
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HUBLOCK_MIRRORS", f"https://example.org/={forge.url}mirror.lan/ https://=http://127.0.0.1:9/")
    monkeypatch.setattr(retry, "LONGEST_WAIT", 0.0)
    done = hub("sync", "--jobs", "1", "--project", str(locked))
    assert done.code == 3, done
    assert "error: by mirror" in done.err


def test_what_the_cache_of_torch_hub_holds_is_not_fetched_again(
    locked: Path, run: Run, forge: Forge, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for number in range(6):
        (checkpoints / f"{number}.bin").write_bytes(b"%d" % number * 1000)
    (checkpoints / "6.bin").write_bytes(b"another file of that name")
    forge.requests.clear()
    done = run("sync", HUBLOCK_CACHE_DIR=str(tmp_path / "elsewhere"), TORCH_HOME=str(tmp_path / "torch"))
    assert str(done) == (
        "exit 0\n--- stdout\n--- stderr\n"
        "  Fetched 0 trees and 2 files, 2.0 KiB\n"
        "Took over 5.9 KiB from torch.hub's own cache\n"
        "   Synced 0 trees and 8 files of hub.lock\n"
    )
    assert sorted(request.path for request in forge.requests) == ["/6.bin", "/7.bin"]


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ({"status": 404}, 5, "does not exist (404)"),
        ({"headers": {"Content-Encoding": "gzip"}}, 5, "answers in the encoding 'gzip', which nobody asked for"),
        ({"redirect_to": URL}, 5, "redirects more than 5 times"),
        ({"length": 999}, 3, "serves 999 bytes, not the 1000 that are locked"),
        ({"data": b"1" * 1000}, 3, "serves bytes of sha256:<hex>, not of the locked sha256:<hex>"),
        (
            {"data": b"<html>", "headers": {"Content-Type": "text/html"}},
            3,
            "serves 6 bytes (a web page), not the 1000 that are locked\n   hint: `hublock update NAME` shows",
        ),
    ],
)
def test_a_file_that_cannot_be_fetched_is_told_with_its_url_and_the_cause(
    locked: Path, run: Run, forge: Forge, tmp_path: Path, fault: dict[str, Any], code: int, said: str
) -> None:
    forge.serve(URL, **{"data": b"0" * 1000, **fault})
    lock = (locked / "hub.lock").read_text()
    there = {"HUBLOCK_CACHE_DIR": str(tmp_path / "elsewhere")}
    done = run("sync", **there)
    assert (done.code, f"error: {URL} {said}" in done.err) == (code, True), done
    assert "Traceback" not in done.err
    assert (locked / "hub.lock").read_text() == lock
    forge.serve(URL, b"0" * 1000)
    assert run("sync", **there).code == 0
    assert run("verify", "--deep", **there).code == 0
