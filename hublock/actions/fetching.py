"""Answers during a trace: every file is downloaded once, judged before its first use, and written down."""

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hublock.actions.consent import demand
from hublock.actions.context import Context
from hublock.actions.pin import Pinned, pin, repository, take_pin, warn_if_odd
from hublock.actions.secrets import check_url, refuse_tokens
from hublock.actions.verdicts import scan_file
from hublock.core.fields import LONGEST_BODY
from hublock.core.inventory import hugging_face_file, hugging_face_folder
from hublock.core.lockfile import HuggingFaceFile, Input, Lock, Model, Pickle, Reply, Traced, TreeWeights, Weights
from hublock.core.manifest import WantedModel
from hublock.core.reference import Reference, key_of
from hublock.core.tree import LINK
from hublock.errors import InputError, TransferError, UnlockedDownload
from hublock.net.download import Wanted
from hublock.net.huggingface import ask_revision
from hublock.net.retry import BUSY
from hublock.net.transport import Response
from hublock.runtime.answers import File, check_prefix, sha256_now
from hublock.runtime.repository import Repository
from hublock.runtime.tracing.parent import Outcome


class FetchingAnswers:
    """Answers that download, for one model of one repository."""

    def __init__(
        self, wanted: WantedModel, pinned: Pinned, lock: Lock, context: Context, *, base: Path, allow_pickle: bool
    ) -> None:
        """Answer for ``wanted`` of ``pinned``; what ``lock`` pins already keeps its digest."""
        self._wanted = wanted
        self._pinned = pinned
        self._lock = lock
        self._context = context
        self._base = base
        self._allow_pickle = allow_pickle
        self._mutex = threading.RLock()
        self._weights: dict[str, Weights] = {}
        self._replies: dict[tuple[str, str], Reply | None] = {}
        self._hf: dict[tuple[str, str, str, str], HuggingFaceFile] = {}
        self._hf_listings: dict[tuple[str, str, str], tuple[str, tuple[str, ...]]] = {}
        self._nested: dict[str, Pinned] = {}
        self._consent: set[str] = set()
        self._tree_weights = {item.path: item for item in pinned.repo.tree_weights}
        self._inputs = dict(self._take_inputs())

    @property
    def input_paths(self) -> Mapping[str, Path]:
        """The files the user hands in, by the name the entry point knows them by."""
        return {
            name: self._context.store.blob(given.digest) or self._base / name for name, given in self._inputs.items()
        }

    @property
    def nested(self) -> tuple[Pinned, ...]:
        """The repositories loaded from within."""
        return tuple(self._nested.values())

    @property
    def consent(self) -> tuple[str, ...]:
        """The globals that were consented to on the way."""
        return tuple(sorted(self._consent))

    @property
    def asked_for(self) -> tuple[str, ...]:
        """Everything that was asked for and given so far, as a user is told of it."""
        with self._mutex:
            return (
                *(nested.repo.id for nested in self.nested),
                *self._weights,
                *(f"{item.file} of {item.repo} at Hugging Face" for item in self._hf.values()),
                *(f"{reply.method} {reply.url}" for reply in self._replies.values() if reply),
            )

    @property
    def tree_weights(self) -> tuple[TreeWeights, ...]:
        """Every checkpoint of the tree that was judged."""
        return tuple(self._tree_weights.values())

    def locked(self, outcome: Outcome) -> Model:
        """Return the model as this trace knows it, not yet confirmed."""
        return replace(
            self._model("unconfirmed"),
            isolation=outcome.isolation,
            traced_with=outcome.traced_with,
            repos=tuple(self._nested),
            hf=tuple(self._hf.values()),
            replies=tuple(reply for reply in self._replies.values() if reply),
            tolerated=outcome.refusals,
            writes_tree=outcome.writes_tree,
        )

    def declared(self) -> Model:
        """Fetch what its user declared, and return the model: nothing ran."""
        for url in self._wanted.urls:
            self._take(url)
        return replace(self._model("declared"), tolerated=self._wanted.tolerate)

    def _model(self, traced: Traced) -> Model:
        wanted = self._wanted
        return Model(
            name=wanted.name,
            entrypoint=wanted.entrypoint,
            args=wanted.args,
            kwargs=wanted.kwargs,
            traced=traced,
            requires=wanted.requires,
            weights=tuple(self._weights.values()),
            inputs=tuple(self._inputs.values()),
        )

    def fetch(self, url: str, *, hash_prefix: str | None = None) -> File:
        """Download ``url`` once, judge it, and write it down.

        Raises:
            UnlockedDownload: there is no such file. Code may have another address for it; then it loads without this
                one offline too, or nothing is locked.
        """
        try:
            return self._take(url, hash_prefix)
        except TransferError as error:
            if error.lasting and self._is_gone(url):
                raise UnlockedDownload(error.message, hint=error.hint) from error
            raise

    def _take(self, url: str, hash_prefix: str | None = None) -> File:
        with self._mutex:
            known = self._weights.get(url) or self._lock.at(url)
            wanted = Wanted(url=url, digest=known.digest, size=known.size) if known else Wanted(url=url)
            if known is None:
                check_url(url, self._context)
            fetched = self._context.downloader().fetch(wanted)
            check_prefix(url, fetched.digest, hash_prefix)
            if known is None:
                warn_if_odd(fetched, self._context)
            pickle = known.pickle if known else scan_file(fetched.path)
            self._demand_consent(url, pickle)
            self._weights[url] = Weights(url=url, digest=fetched.digest, size=fetched.size, pickle=pickle)
            return File(path=fetched.path, digest=fetched.digest, size=fetched.size, pickle=pickle)

    def repo(self, reference: str) -> Repository:
        """Pin a nested repository, or take the pin that the lock has; raises as :func:`pin` does, too.

        Raises:
            UnlockedDownload: it lies on this machine or behind ssh, which foreign code must not reach.
        """
        with self._mutex:
            parsed = Reference.parse(reference)
            if parsed.key == key_of(self._pinned.repo.id):
                return repository(self._pinned.repo, self._pinned.tree)
            if parsed.kind != "github" and not parsed.location.startswith("git+https://"):
                # foreign code would read what lies on this machine, or use the user's ssh keys
                raise UnlockedDownload(f"{self._pinned.repo.id} loads {reference}, which is not public on the web")
            found = next((p for p in self._nested.values() if key_of(p.repo.id) == parsed.key), None)
            if found is None and (known := self._lock.repo(reference)) is not None:
                found = take_pin(known, self._context, base=self._base)
            elif found is None:
                found = pin(parsed, self._context, base=self._base, nested=True)
            self._nested[found.repo.id] = found
            return repository(found.repo, found.tree)

    def reply(self, method: str, url: str) -> tuple[int, bytes] | None:
        """Fetch a small metadata answer and write it down; None if ``url`` is a file."""
        with self._mutex:
            if url in self._weights or self._lock.at(url):
                return None
            if (method, url) not in self._replies:
                self._replies[method, url] = self._pinned_reply(method, url) or self._ask(method, url)
            reply = self._replies[method, url]
            return None if reply is None else (reply.status, reply.body.encode())

    def hf(self, repo: str, type: str, revision: str, file: str) -> tuple[str, File]:
        """Fetch one file of a Hugging Face repository at the commit that its revision names now."""
        with self._mutex:
            folder, commit = hugging_face_folder(repo, type), self._hf_commit(repo, type, revision)
            known = next((row for row in self._locked_hf(repo, type) if (row.commit, row.file) == (commit, file)), None)
            wanted = Wanted(url=hugging_face_file(repo, type, commit, file))
            if known is not None:
                wanted = Wanted(url=wanted.url, digest=known.digest, size=known.size)
            fetched = self._context.downloader().fetch(wanted)
            pickle = known.pickle if known else scan_file(fetched.path)
            self._demand_consent(f"{folder}/{file}", pickle)
            self._hf[repo, type, revision, file] = HuggingFaceFile(
                repo=repo,
                type=type,
                revision=revision,
                commit=commit,
                file=file,
                digest=fetched.digest,
                size=fetched.size,
                pickle=pickle,
            )
            return commit, File(path=fetched.path, digest=fetched.digest, size=fetched.size, pickle=pickle)

    def hf_files(self, repo: str, type: str, revision: str) -> tuple[str, tuple[str, ...]]:
        """Ask Hugging Face which files a repository holds: at the locked commit, else at the one it names now."""
        with self._mutex:
            return self._hf_listing(repo, type, self._locked_commit(repo, type, revision) or revision)

    def input(self, path: Path) -> File | None:
        """Return the verdict on a file the user handed in, or one that was fetched and put somewhere else."""
        digest = sha256_now(path)
        for items in (self._inputs.values(), self._weights.values(), self._hf.values()):
            for item in items:
                if item.digest == digest:
                    return File(path=path, digest=digest, size=item.size, pickle=item.pickle)
        return None

    def pickle_of(self, repo: str, path: str) -> Pickle | None:
        """Judge a checkpoint in a tree, and write the verdict down; None if the tree holds no such file."""
        with self._mutex:
            nested = self._nested.get(repo)
            pinned = nested or self._pinned
            entry = pinned.tree.listing.by_path.get(path)
            if entry is None or entry.mode == LINK:
                return None
            known = {item.path: item.pickle for item in pinned.repo.tree_weights}
            pickle = known.get(path) or scan_file(pinned.tree.root / path)
            self._demand_consent(f"{path} in {pinned.repo.id}", pickle)
            found = TreeWeights(path=path, pickle=pickle)
            if nested is None:
                self._tree_weights[path] = found
            elif path not in known:
                judged = replace(nested.repo, tree_weights=(*nested.repo.tree_weights, found))
                self._nested[repo] = replace(nested, repo=judged)
            return pickle

    def _is_gone(self, url: str) -> bool:
        if self._lock.at(url):
            return False
        with self._context.transport.open("HEAD", url) as response:
            return response.status in (404, 410)

    def _pinned_reply(self, method: str, url: str) -> Reply | None:
        replies = (reply for model in self._lock.models for reply in model.replies)
        return next((reply for reply in replies if (reply.method, reply.url) == (method, url)), None)

    def _ask(self, method: str, url: str) -> Reply | None:
        check_url(url, self._context)
        with self._context.transport.open(method, url) as response:
            if response.status in BUSY:
                # a lock would replay for good what is over in a moment
                raise TransferError(f"{url} answers with status {response.status}", hint="try again later")
            if response.status == 403 and response.headers.get("X-RateLimit-Remaining") == "0":
                # for longer than anybody waits, and most code can do without
                self._context.progress.warn(
                    f"{url} refuses to answer (HTTP 403), as its limit for visitors is used up; the lock replays that"
                )
            body = _text(response)
        if body is None and response.status < 400:
            return None
        refuse_tokens(body or "", f"the answer of {url}", self._context)
        return Reply.of(method, url, response.status, body or "")

    def _hf_commit(self, repo: str, type: str, revision: str) -> str:
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return revision
        return self._locked_commit(repo, type, revision) or self._hf_listing(repo, type, revision)[0]

    def _locked_commit(self, repo: str, type: str, revision: str) -> str | None:
        """Return the commit that the lock has of a revision: locking never moves a pin."""
        return next((row.commit for row in self._locked_hf(repo, type) if row.revision == revision), None)

    def _locked_hf(self, repo: str, type: str) -> Iterator[HuggingFaceFile]:
        for row in (row for model in self._lock.models for row in model.hf):
            if (row.repo, row.type) == (repo, type):
                yield row

    def _hf_listing(self, repo: str, type: str, revision: str) -> tuple[str, tuple[str, ...]]:
        """Ask for commit and files of a revision, once in a trace."""
        key = (repo, type, revision)
        if key not in self._hf_listings:
            self._hf_listings[key] = ask_revision(repo, type, revision, self._context.transport)
        return self._hf_listings[key]

    def _demand_consent(self, what: str, pickle: Pickle) -> None:
        self._consent.update(demand(self._wanted, what, pickle, self._consent, allow=self._allow_pickle))

    def _take_inputs(self) -> list[tuple[str, Input]]:
        taken = []
        for name in self._wanted.inputs:
            path = self._base / name
            check_input(path, f"{path} of model {self._wanted.name}")
            digest = self._context.store.add_blob(path)
            pickle = scan_file(path)
            self._demand_consent(name, pickle)
            taken.append((name, Input(name=name, digest=digest, size=path.stat().st_size, pickle=pickle)))
        return taken


def check_input(path: Path, what: str) -> None:
    """Refuse to hand in what is no file.

    Raises:
        InputError: there is no file at ``path``, which is called ``what``.
    """
    if not path.is_file():
        why = "is not a file" if path.exists() else "does not exist"
        raise InputError(f"the input {what} {why}", hint="put the file there, or name another")


def _text(response: Response) -> str | None:
    """Return a small text that an API answered; None for a file."""
    if not re.match(r"application/(\w+\+)?json|text/", response.headers.get("Content-Type", "")):
        return None
    body = b""
    for chunk in response.chunks(1 << 16):
        body += chunk
        if len(body) > LONGEST_BODY:
            return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
