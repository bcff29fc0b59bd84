"""What a trace is answered, and what of it enters the lock."""

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hublock.actions.context import Context
from hublock.actions.fetching import FetchingAnswers
from hublock.actions.pin import Pinned, pin
from hublock.actions.trace import judge
from hublock.core.digest import Digest
from hublock.core.fields import LONGEST_BODY
from hublock.core.inventory import addresses_of, locked_files
from hublock.core.lockfile import Input, Lock, Model, TreeWeights, Weights
from hublock.core.manifest import WantedModel
from hublock.core.progress import Progress
from hublock.core.reference import Reference
from hublock.errors import IncompleteTrace, InputError, TransferError, UnlockedDownload, UnsafePickle
from hublock.net.download import Wanted
from hublock.runtime.answers import LockedAnswers
from hublock.runtime.tracing.parent import Outcome
from hublock.store.store import Store
from tests.forge import Forge, Link

WANTED = WantedModel(name="net", repo="someone/net", entrypoint="net")
ENDED = Outcome(
    state=None,
    traced_with=(),
    isolation="guard",
    entrypoints=(),
    dependencies=(),
    refusals=(),
    writes_tree=False,
    output="",
)
API = "https://api.example.org/latest"
OLD, NEW = "a" * 40, "b" * 40
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def context(forge: Forge, tmp_path: Path) -> Context:
    return Context(settings=forge.settings(tmp_path / "store", GITHUB_TOKEN="ghp_secret"))


@pytest.fixture
def pinned(forge: Forge, context: Context, tmp_path: Path) -> Pinned:
    forge.repo("someone/net", {"hubconf.py": "dependencies = []\ndef net():\n    pass\n"})
    return pin(Reference.parse("someone/net"), context, base=tmp_path)


def fetching(
    pinned: Pinned, context: Context, lock: Lock | None = None, wanted: WantedModel = WANTED
) -> FetchingAnswers:
    return FetchingAnswers(
        wanted, pinned, lock or Lock(), context, base=context.settings.cache.parent, allow_pickle=False
    )


def locked(pinned: Pinned, model: Model) -> Lock:
    return Lock(repos=(replace(pinned.repo, models=(model,)),))


def hugging_face(forge: Forge, commit: str, data: bytes, *, revision: str = "main") -> None:
    """Serve owner/net as Hugging Face does: the file redirects to where it lies, which tells no commit."""
    listing = json.dumps({"sha": commit, "siblings": [{"rfilename": "net.bin"}, {"rfilename": "README.md"}]})
    forge.serve(f"https://huggingface.co/api/models/owner/net/revision/{revision}", listing.encode(), headers=JSON)
    forge.serve(f"https://huggingface.co/api/models/owner/net/revision/{commit}", listing.encode(), headers=JSON)
    signed = f"https://cdn.example.org/{commit}?Signature=0"
    file = f"https://huggingface.co/owner/net/resolve/{commit}/net.bin"
    forge.serve(file, redirect_to=signed, headers={"X-Repo-Commit": commit})
    forge.serve(signed, data)


def test_a_hugging_face_file_is_locked_at_the_commit_its_branch_names(
    forge: Forge, context: Context, pinned: Pinned
) -> None:
    hugging_face(forge, OLD, b"old")
    answers = fetching(pinned, context)

    commit, file = answers.hf("owner/net", "model", "main", "net.bin")

    assert (commit, file.path.read_bytes()) == (OLD, b"old")
    assert answers.hf_files("owner/net", "model", "main") == (OLD, ("net.bin", "README.md"))
    assert [(row.revision, row.commit) for row in answers.locked(ENDED).hf] == [("main", OLD)]
    asked = [request.path for request in forge.seen("huggingface.co")]
    assert len([path for path in asked if path.startswith("/api/")]) == 1


def test_a_revision_may_hold_slashes(forge: Forge, context: Context, pinned: Pinned) -> None:
    hugging_face(forge, OLD, b"old", revision="refs%2Fpr%2F1")

    assert fetching(pinned, context).hf("owner/net", "model", "refs/pr/1", "net.bin")[0] == OLD


def test_locking_again_never_moves_a_hugging_face_branch(forge: Forge, context: Context, pinned: Pinned) -> None:
    hugging_face(forge, OLD, b"old")
    first = fetching(pinned, context)
    first.hf("owner/net", "model", "main", "net.bin")
    hugging_face(forge, NEW, b"new")
    before = len(forge.requests)

    again = fetching(pinned, context, locked(pinned, first.locked(ENDED)))

    assert again.hf("owner/net", "model", "main", "net.bin")[0] == OLD
    assert len(forge.requests) == before
    assert again.hf_files("owner/net", "model", "main")[0] == OLD
    assert fetching(pinned, context).hf("owner/net", "model", "main", "net.bin")[0] == NEW


def test_a_hugging_face_file_whose_name_means_something_else_in_a_url_is_asked_for_by_that_name(
    forge: Forge, context: Context, pinned: Pinned
) -> None:
    hugging_face(forge, OLD, b"old")
    forge.serve(f"https://huggingface.co/owner/net/resolve/{OLD}/net", b"another file")
    forge.serve(f"https://huggingface.co/owner/net/resolve/{OLD}/net%231%20%3F.bin", b"the right one")
    answers = fetching(pinned, context)
    assert answers.hf("owner/net", "model", OLD, "net#1 ?.bin")[1].path.read_bytes() == b"the right one"
    lock = locked(pinned, answers.locked(ENDED))
    [file] = locked_files(lock)
    assert [row.url for row in addresses_of(lock.models, lock.weights)] == [file.url]
    assert context.downloader().fetch(Wanted(url=file.url)).digest == file.digest


def test_a_hugging_face_repository_that_is_not_there_is_told(forge: Forge, context: Context, pinned: Pinned) -> None:
    with pytest.raises(TransferError, match=r"owner/net.* answers with status 404"):
        fetching(pinned, context).hf("owner/net", "model", "main", "net.bin")


def test_what_hugging_face_tells_is_bounded_and_must_be_what_was_asked_for(
    forge: Forge, context: Context, pinned: Pinned, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = "https://huggingface.co/api/models/owner/net/revision/main"
    for status, data, said, hint in (
        (200, b"{}", "does not tell what owner/net holds", "run the same command again later"),
        (401, b"{}", "answers with status 401", "set HF_TOKEN"),
        (503, b"{}", "answers with status 503", "run the same command again later"),
        (200, b"x" * 1001, "answers with more than 1000 bytes", None),
    ):
        monkeypatch.setattr("hublock.net.huggingface.LONGEST_LISTING", 1000)
        forge.serve(listing, data, status=status)
        with pytest.raises(TransferError, match=said) as caught:
            fetching(pinned, context).hf("owner/net", "model", "main", "net.bin")
        assert caught.value.hint == hint


def test_a_metadata_answer_is_carried_by_the_lock(
    forge: Forge, context: Context, pinned: Pinned, tmp_path: Path
) -> None:
    forge.serve(API, b'{"file": "net.pth"}', headers=JSON)
    forge.serve("https://api.example.org/gone", b"no such thing", status=404)
    answers = fetching(pinned, context)
    assert answers.reply("GET", API) == (200, b'{"file": "net.pth"}')
    assert answers.reply("GET", "https://api.example.org/gone") == (404, b"no such thing")
    forge.serve(API, b'{"file": "net.pth", "downloads": 8}', headers=JSON)

    lock = locked(pinned, answers.locked(ENDED))
    elsewhere = LockedAnswers(lock, lock.repos[0], lock.repos[0].models, Store(tmp_path / "empty"))

    assert elsewhere.reply("GET", API) == (200, b'{"file": "net.pth"}')
    assert elsewhere.reply("GET", "https://api.example.org/gone") == (404, b"no such thing")
    assert fetching(pinned, context, lock).reply("GET", API) == (200, b'{"file": "net.pth"}')


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"{}", "application/octet-stream"), (b"\xff", "text/plain"), (b"1" * (LONGEST_BODY + 1), "text/plain")],
    ids=["another type", "not UTF-8", "too long"],
)
def test_whatever_else_answers_is_a_file(
    forge: Forge, context: Context, pinned: Pinned, data: bytes, kind: str
) -> None:
    forge.serve(API, data, headers={"Content-Type": kind})
    answers = fetching(pinned, context)

    assert answers.reply("GET", API) is None
    assert answers.fetch(API).path.read_bytes() == data
    assert answers.locked(ENDED).replies == ()


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_is_busy_is_no_answer_to_replay(
    forge: Forge, context: Context, pinned: Pinned, status: int
) -> None:
    forge.serve(API, b"later", status=status)

    with pytest.raises(TransferError, match=f"latest answers with status {status}"):
        fetching(pinned, context).reply("GET", API)


def test_a_limit_that_is_used_up_is_replayed_and_said_so(forge: Forge, context: Context, pinned: Pinned) -> None:
    warned: list[str] = []

    class Heard(Progress):
        def warn(self, text: str) -> None:
            warned.append(text)

    context = replace(context, progress=Heard())
    for left in ("0", "59"):
        forge.serve(API, b"{}", status=403, headers={**JSON, "X-RateLimit-Remaining": left})
        assert fetching(pinned, context).reply("GET", API) == (403, b"{}")
    assert warned == [
        f"{API} refuses to answer (HTTP 403), as its limit for visitors is used up; the lock replays that"
    ]


def test_an_answer_that_repeats_a_token_does_not_enter_the_lock(forge: Forge, context: Context, pinned: Pinned) -> None:
    forge.serve(API, b'{"you are": "ghp_secret"}', headers=JSON)

    with pytest.raises(InputError, match="holds a token of this environment"):
        fetching(pinned, context).reply("GET", API)


def test_a_checkpoint_of_a_nested_tree_is_judged_and_written_down(
    forge: Forge, context: Context, pinned: Pinned
) -> None:
    blob = pickle.dumps({"a": 1})
    forge.repo("someone/inner", {"hubconf.py": "dependencies = []\n", "net.weights16": blob})
    answers = fetching(pinned, context)
    answers.repo("someone/inner")

    assert answers.pickle_of("someone/inner", "net.weights16") == "tensors"

    assert [(row.path, row.pickle) for row in answers.nested[0].repo.tree_weights] == [("net.weights16", "tensors")]
    assert answers.tree_weights == ()


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "../listing", "absent.pt", "x" * 5000, "link.pt"])
def test_only_files_of_the_tree_are_judged(forge: Forge, context: Context, pinned: Pinned, path: str) -> None:
    forge.repo("someone/inner", {"hubconf.py": "dependencies = []\n", "link.pt": Link("hubconf.py")})
    answers = fetching(pinned, context)
    answers.repo("someone/inner")

    assert answers.pickle_of("someone/inner", path) is None
    assert answers.pickle_of("someone/net", path) is None
    assert answers.tree_weights == ()


@pytest.mark.parametrize("spelling", ["{}", "git+file://{}"])
def test_foreign_code_cannot_load_a_repository_of_this_machine(
    forge: Forge, context: Context, pinned: Pinned, tmp_path: Path, spelling: str
) -> None:
    private = forge.repo("the/user", {"hubconf.py": "", "private.txt": "secret"})
    answers = fetching(pinned, context)

    with pytest.raises(UnlockedDownload, match="not public on the web"):
        answers.repo(spelling.format(private.path))
    with pytest.raises(UnlockedDownload, match="not public on the web"):
        answers.repo("git+ssh://git@example.org/the/user")


def test_what_is_no_url_is_refused(context: Context, pinned: Pinned) -> None:
    with pytest.raises(InputError, match="is not a URL"):
        fetching(pinned, context).fetch("https://[")
    with pytest.raises(InputError, match="is not a URL"):
        fetching(pinned, context).reply("GET", "https://[")


def test_everything_that_was_given_can_be_told(forge: Forge, context: Context, pinned: Pinned) -> None:
    forge.repo("someone/inner", {"hubconf.py": "dependencies = []\n"})
    forge.serve("https://example.org/net.pth", b"bytes")
    forge.serve(API, b"{}", headers=JSON)
    hugging_face(forge, OLD, b"old")
    answers = fetching(pinned, context)
    answers.fetch("https://example.org/net.pth")
    answers.reply("GET", API)
    answers.repo("someone/inner")
    answers.hf("owner/net", "model", "main", "net.bin")

    assert answers.asked_for == (
        "someone/inner", "https://example.org/net.pth", "net.bin of owner/net at Hugging Face", f"GET {API}",
    )  # fmt: skip


def test_a_file_that_is_not_there_may_have_another_address(forge: Forge, context: Context, pinned: Pinned) -> None:
    forge.serve("https://example.org/secret.pth", b"login first", status=403)
    answers = fetching(pinned, context)

    with pytest.raises(UnlockedDownload, match=r"net\.pth does not exist \(404\)"):
        answers.fetch("https://example.org/net.pth")
    with pytest.raises(TransferError, match=r"secret\.pth answers with status 403"):
        answers.fetch("https://example.org/secret.pth")
    with pytest.raises(TransferError, match=r"net\.pth does not exist \(404\)"):
        fetching(pinned, context, wanted=replace(WANTED, urls=("https://example.org/net.pth",))).declared()


def test_a_pickle_is_judged_before_anybody_gets_it(forge: Forge, context: Context, pinned: Pinned) -> None:
    buffer = io.BytesIO()
    pickle.dump(Path("x"), buffer)
    forge.serve("https://example.org/net.pth", buffer.getvalue())
    answers = fetching(pinned, context)

    with pytest.raises(UnsafePickle, match=r"net\.pth would run pathlib"):
        answers.fetch("https://example.org/net.pth")

    assert answers.locked(ENDED).weights == ()


def test_equal_tensors_excuse_a_refused_download_only_where_they_can_come_from_a_file(
    context: Context, pinned: Pinned
) -> None:
    state = Digest("sha256", "0" * 64)
    run = replace(ENDED, state=state, refusals=("subprocess:wget",))
    bare = Model(name="net", entrypoint="net")
    file = Weights(url="https://example.org/net.pth", digest=state, size=1, pickle="tensors")
    given = Input(name="net.pth", digest=state, size=1, pickle="tensors")
    holding = replace(pinned.repo, tree_weights=(TreeWeights(path="net.pth", pickle="tensors"),))

    # its code may set the random seed itself
    with pytest.raises(IncompleteTrace, match="was refused subprocess:wget and fetched no file at all") as caught:
        judge(WANTED, bare, [pinned.repo], run, run, context)
    assert caught.value.hint == (
        "hublock add someone/net net --tolerate subprocess:wget, if the model is right without; "
        'where the manifest has [models.net] already, write tolerate = ["subprocess:wget"] there'
    )
    for wanted, model, repos in (
        (WANTED, replace(bare, weights=(file,)), [pinned.repo]),
        (WANTED, replace(bare, inputs=(given,)), [pinned.repo]),
        (WANTED, bare, [pinned.repo, holding]),
        (replace(WANTED, tolerate=run.refusals), bare, [pinned.repo]),
    ):
        assert judge(wanted, model, repos, run, run, context) == (state, run.refusals)


@pytest.mark.parametrize(
    "more", [{"name": "wide"}, {"kwargs": {"width": 3}}, {"inputs": ("net.pth",)}, {"tolerate": ("subprocess:pip",)}]
)
def test_a_hint_says_where_words_of_the_command_are_missing_and_keeps_what_is_tolerated(
    context: Context, more: dict[str, Any]
) -> None:
    wanted = replace(WANTED, **more)
    run = replace(ENDED, refusals=("https://example.org", *wanted.tolerate))

    with pytest.raises(IncompleteTrace) as caught:
        judge(wanted, Model(name=wanted.name, entrypoint="net"), [], run, run, context)
    assert caught.value.hint == (
        "hublock add someone/net net … --tolerate https://example.org, if the model is right without; "
        f"where the manifest has [models.{wanted.name}] already, "
        f"write tolerate = {json.dumps(['https://example.org', *wanted.tolerate])} there"
    )
