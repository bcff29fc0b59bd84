"""A token opens what is private, and is found nowhere afterwards: not in what is said, written, kept or logged."""

import base64
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forge import Forge
from tests.stories.conftest import Run

CANARY = "ghp_canary0123456789"
HUBCONF = "dependencies = []\n\n\ndef net(pretrained=False):\n    return None\n"
ASSET = "https://github.com/someone/private/releases/download/v1/net.pth"
HUGGING = "https://huggingface.co/someone/net/resolve/main/net.bin"


@pytest.fixture
def private(forge: Forge) -> Forge:
    """A private repository whose release holds its weights, and a gated file of Hugging Face."""
    repo = forge.repo("someone/private", {"hubconf.py": HUBCONF})
    repo.tag("v1")
    repo.token = CANARY
    forge.repo("someone/old").renamed_to = "someone/private"
    forge.private_asset(ASSET, b"private weights", token=CANARY)
    forge.serve("https://api.github.com/repos/someone/private/releases/tags/v2", status=404)
    signed = "https://cdn-lfs.huggingface.co/net?Signature=0123"
    forge.serve(HUGGING, redirect_to=signed, token=CANARY)
    forge.serve(signed, b"gated weights")
    return forge


@pytest.fixture
def say(private: Forge, project: Path, store: Path, monkeypatch: pytest.MonkeyPatch, inside: Run) -> Run:
    """Run ``hublock …`` in this process, as verbose as it can be."""
    monkeypatch.setenv("HUBLOCK_CACHE_DIR", str(store))
    monkeypatch.chdir(project)

    return lambda *args: inside(*args, "-v")


def spellings(secret: str) -> Iterator[bytes]:
    """Every form in which a secret may travel."""
    yield secret.encode()
    for user in ("", "x-access-token", "me"):
        encoded = base64.b64encode(f"{user}:{secret}".encode()).rstrip(b"=")
        # the last letters depend on what follows
        yield encoded[:-1]
    yield base64.b64encode(secret.encode()).rstrip(b"=")[:-1]


def search(found: bytes, where: str) -> None:
    for spelling in spellings(CANARY):
        assert spelling not in found, where


def search_folder(folder: Path) -> int:
    """Search every file and every name below ``folder``; return how many there were."""
    paths = list(folder.rglob("*"))
    for path in paths:
        search(str(path).encode(), str(path))
        if path.is_file() and path.name != ".netrc":
            search(path.read_bytes(), str(path))
    return len(paths)


@pytest.mark.parametrize("kind", ["token", "netrc"])
def test_a_secret_is_found_nowhere(
    private: Forge,
    say: Run,
    project: Path,
    store: Path,
    clean_environment: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    url = ASSET if kind == "token" else "https://github.com/someone/private/raw/net.pth"
    if kind == "token":
        for name in ("GITHUB_TOKEN", "GH_TOKEN", "HF_TOKEN"):
            monkeypatch.setenv(name, CANARY)
    else:
        netrc = clean_environment / ".netrc"
        hosts = ("github.com", "huggingface.co")
        netrc.write_text("".join(f"machine {host} login me password {CANARY}\n" for host in hosts))
        netrc.chmod(0o600)
        private.serve(url, b"private weights", token=CANARY)
    said = []
    for words, code in (
        (["add", "someone/private:v1", "net", "--no-trace", "--url", url], 0),
        (["add", "someone/old:v1", "net", "--name", "renamed", "--no-trace", "--url", url], 0),
        (["add", "--url", HUGGING, "--name", "gated"], 0),
        (["list"], 0),
        (["lock"], 0),
        (["verify", "--upstream"], 0),
        (["verify", "--deep", "--format", "sarif"], 0),
        (["outdated"], 0),
        (["sync"], 0),
        (["add", "someone/nothing:v1", "net", "--no-trace", "--url", url], 2),
        (["add", "someone/private:nothing", "net", "--no-trace", "--url", url], 2),
        (["add", "--url", "https://github.com/someone/private/releases/download/v2/x.pth", "--name", "x"], 5),
        (["add", f"git+https://me:{CANARY}@github.com/someone/private", "net"], 2),
        (["add", "--url", f"https://me:{CANARY}@example.org/x", "--name", "y"], 2),
    ):
        done = say(*words)
        assert done.code == code, done
        said.append(str(done))
    assert [request for request in private.requests if "authorization" in request.headers]
    assert caplog.records
    search("".join(said).encode(), "what was said")
    search(caplog.text.encode(), "the log")
    assert search_folder(project) >= 2
    assert search_folder(store) > 10
    search_folder(clean_environment)


def test_a_private_file_that_is_hidden_without_the_token_asks_for_it(
    private: Forge, say: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as known:
        known.setenv("GITHUB_TOKEN", CANARY)
        assert say("add", "--url", ASSET, "--name", "net").code == 0
    done = say("verify", "--upstream")
    assert done.code == 5, done
    assert "for a release of a private repository set GITHUB_TOKEN" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ["--url", f"https://example.org/x?t={CANARY}", "--name", "x"],
        ["someone/private:v1", "net", "--no-trace", "--url", f"https://example.org/{CANARY}/x"],
        ["someone/private:v1", "net", "--no-trace", "--url", ASSET, "--kwarg", f"auth={CANARY}"],
        ["someone/private:v1", "net", "--no-trace", "--url", ASSET, "--arg", f"[{{'auth': 'Bearer {CANARY}'}}]"],
        ["someone/private:v1", "net", "--no-trace", "--url", ASSET, "--name", CANARY],
        [f"git+https://github.com/{CANARY}/private", "net", "--no-trace", "--url", ASSET],
    ],
)
def test_a_token_that_would_enter_the_lock_is_refused_and_not_repeated(
    private: Forge, say: Run, project: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", CANARY)
    done = say("add", *words)
    assert done.code == 2, done
    search(str(done).encode(), "what was said")
    assert "holds a token of this environment" in done.err
    assert list(project.iterdir()) == []
