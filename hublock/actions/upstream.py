"""Ask the hosts whether they still hold what the lock names; nothing is changed, and nothing of it runs."""

import hashlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from hublock.actions.context import Context
from hublock.actions.moves import Move, at_once, look, sure
from hublock.actions.pin import remote_of
from hublock.core.digest import Digest
from hublock.core.findings import Finding, Rule
from hublock.core.inventory import LockedFile, address, addresses_of
from hublock.core.lockfile import HuggingFaceFile, Lock, Repo
from hublock.core.reference import Reference
from hublock.core.tree import digest_of
from hublock.core.validators import claims
from hublock.errors import HublockError, InputError, IntegrityError, RefNotFound, RepositoryNotFound, TransferError
from hublock.net.git.refs import short
from hublock.net.huggingface import ask_revision
from hublock.net.releases import HOST, is_asset
from hublock.net.retry import MIRROR_TRIES, ask, patiently
from hublock.net.routes import passed_over
from hublock.net.source import refuse_encoded
from hublock.net.transport import Response
from hublock.report.text import distance

CONTENT_GONE = (404, 410)
_KEEP = "keep the store, or name a mirror in HUBLOCK_MIRRORS"
_PRIVATE = "for a release of a private repository set GITHUB_TOKEN"


def check_upstream(lock: Lock, context: Context, *, base: Path, deep: bool) -> list[Finding]:
    """Return every way in which the hosts no longer hold what ``lock`` names.

    Sizes and the digests that hosts claim are compared; where one differs, and with ``deep`` always, the file is
    fetched and hashed, and not kept. With ``deep``, the locked commits are fetched as well.
    """
    repos = at_once(lambda repo: _of_repo(repo, context, base, deep=deep), lock.repos, context)
    return [*chain.from_iterable(sure(repos)), *check_files(lock, context, deep=deep)]


def check_files(lock: Lock, context: Context, *, deep: bool = False) -> list[Finding]:
    """Do what :func:`check_upstream` does, for the files alone."""
    files = addresses_of(lock.models, lock.weights)
    served = at_once(lambda file: _of_file(file, context, deep=deep), files, context)
    revisions = {(row.repo, row.type, row.revision): row for model in lock.models for row in model.hf}.values()
    named = at_once(lambda row: _of_revision(row, context), revisions, context)
    return [*filter(None, sure(served)), *filter(None, sure(named))]


def check_file(file: LockedFile, context: Context, *, deep: bool = False) -> Finding | None:
    """Say how the file at a URL differs from the locked one, if it does.

    Where a mirror has it otherwise, or not at all, the next mirror and the origin are asked.

    Raises:
        TransferError: the host could not be reached, or refuses.
    """
    ways = context.transport.routes(file.url)
    replaced: Finding | None = None
    for number, way in enumerate(ways[:-1]):
        try:
            found = _check_route(file, context, number, deep=deep)
        except TransferError as error:
            reason = error.message
        else:
            if found is None:
                return None
            if found.rule == Rule.UPSTREAM_FILE_REPLACED:
                replaced = replace(found, message=found.message + way.by_mirror)
            reason = found.message
        context.progress.warn(passed_over(way, ways[number + 1], reason))
    try:
        return _check_route(file, context, len(ways) - 1, deep=deep)
    except TransferError:
        if replaced is None:
            raise
        return replaced


def _check_route(file: LockedFile, context: Context, route: int, *, deep: bool) -> Finding | None:
    with _head(file.url, context, route) as answer:
        if answer.status in CONTENT_GONE:
            return _finding(
                Rule.UPSTREAM_FILE_GONE,
                file.url,
                f"{file.url} serves nothing any more (HTTP {answer.status})",
                _KEEP if context.settings.tokens.get(HOST) or not is_asset(file.url) else f"{_KEEP}; {_PRIVATE}",
            )
        if answer.status != 200:
            raise TransferError(f"{file.url} is refused (HTTP {answer.status})", hint="try later")
        refuse_encoded(file.url, answer)
        suspect = _size(answer) not in (None, file.size) or _claims_other(file, answer, context)
    served = None
    if deep or suspect:
        read = partial(_differing, file, context, route)
        served = patiently(read, earned=lambda: False, pause=lambda *_: None, tries=MIRROR_TRIES)
    if served is None:
        return None
    return _finding(Rule.UPSTREAM_FILE_REPLACED, file.url, f"{file.url} serves {served}", _update(file.owner))


def proven_same(file: LockedFile, context: Context) -> bool:
    """Tell whether the host itself claims the locked digest for the file, so that it need not be fetched to know.

    Raises:
        TransferError: the host could not be reached.
    """
    with _head(file.url, context) as answer:
        return answer.status == 200 and claims(answer.headers).get("sha256") == file.digest.hex


def _head(url: str, context: Context, route: int | None = None) -> Response:
    answer = context.transport.open("HEAD", url, route=route)
    if answer.status == 200 and not (answer.encoding or answer.unknown_coding):
        return answer
    answer.close()
    # some hosts answer GET alone, or HEAD otherwise; the body is left on the line
    return ask(context.transport, "GET", url, route=route)


def _size(answer: Response) -> int | None:
    told = answer.headers.get("Content-Length", "")
    return int(told) if re.fullmatch(r"[0-9]{1,18}", told) else None


def _claims_other(file: LockedFile, answer: Response, context: Context) -> bool:
    told = claims(answer.headers)
    if "sha256" in told:
        return told["sha256"] != file.digest.hex
    if "md5" not in told:
        return False
    try:
        blob = context.store.blob(file.digest)
        if blob is None:
            return False
        with blob.open("rb") as stream:
            own = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    except OSError:
        # what is served can be compared with the lock all the same, if it is fetched
        return True
    return own.hexdigest() != told["md5"]


def _differing(file: LockedFile, context: Context, route: int) -> str | None:
    """Say what is served instead of the locked bytes, if something is; what answers HEAD need not know the file."""
    engine, label = hashlib.sha256(), urlsplit(file.url).path.rpartition("/")[2] or file.url
    task = context.progress.task(label, file.size)
    with task, ask(context.transport, "GET", file.url, route=route) as answer:
        if answer.status != 200:
            raise TransferError(f"{file.url} is refused (HTTP {answer.status})", hint="try later", lasting=True)
        refuse_encoded(file.url, answer)
        size = _size(answer)
        if size not in (None, file.size):
            return f"{size} bytes, not the locked {file.size}"
        left = file.size
        for chunk in answer.chunks():
            engine.update(chunk)
            task.advance(len(chunk))
            left -= len(chunk)
            if left < 0:
                return f"more than the locked {file.size} bytes"
    if left and answer.chunked:
        return f"{file.size - left} bytes, not the locked {file.size}"
    if left:
        # of a body that does not say where it ends, only this tells that the line broke
        raise TransferError(f"{file.url} broke off: {file.size - left} of {file.size} bytes came", hint="try later")
    found = Digest("sha256", engine.hexdigest())
    return None if found == file.digest else f"bytes of {found}, not of the locked {file.digest}"


def revision_commit(row: HuggingFaceFile, context: Context) -> str:
    """Return the commit that a Hugging Face revision names now.

    Raises:
        TransferError: the host could not be reached, or does not tell.
    """
    return ask_revision(row.repo, row.type, row.revision, context.transport)[0]


def _of_file(file: LockedFile, context: Context, *, deep: bool) -> Finding | None:
    try:
        return check_file(file, context, deep=deep)
    except HublockError as error:
        return _unreachable(file.url, error)


def _of_revision(row: HuggingFaceFile, context: Context) -> Finding | None:
    url = address(row)
    try:
        commit = revision_commit(row, context)
    except HublockError as error:
        return _unreachable(url, error)
    if commit == row.commit:
        return None
    message = f"{row.revision} of {row.repo} is {commit[:12]} by now, not the locked {row.commit[:12]}"
    return _finding(Rule.UPSTREAM_REVISION_MOVED, url, message, "hublock update --all")


def _of_repo(repo: Repo, context: Context, base: Path, *, deep: bool) -> list[Finding]:
    found: list[Finding] = []
    try:
        seen = look(repo, context, base=base)
        found += of_name(repo, seen)
        if seen.trend != "same":
            found += [_moved(repo, seen)] if seen.resolved.ref == repo.ref else _of_other_ref(repo, seen)
    except HublockError as error:
        # whoever does not tell the refs need not be asked for a commit
        return [*found, of_failure(repo, error)]
    return [*found, *_of_tree(repo, context, base)] if deep else found


def of_name(repo: Repo, seen: Move) -> Iterator[Finding]:
    """Say how a repository is called by now, if it is called otherwise."""
    if seen.resolved.moved is not None:
        name = str(seen.resolved.moved)
        message = f"{repo.id} is called {name} by now, and its old name can be taken by anybody"
        yield _finding(Rule.UPSTREAM_RENAMED, repo.id, message, f"write {name} in the manifest, then hublock lock")


def _of_tree(repo: Repo, context: Context, base: Path) -> Iterator[Finding]:
    """Fetch the locked commit and compare it with the locked tree."""
    try:
        snapshot = remote_of(Reference.parse(repo.id), context, base).fetch(repo.commit, progress=context.progress)
        tree, digest = snapshot.tree, digest_of(snapshot.files)
        if (tree, digest) != (repo.tree, repo.digest):
            there, here = f"{tree} ({digest})", f"{repo.tree} ({repo.digest})"
            message = f"commit {repo.commit} of {repo.id} holds the tree {there}, not the locked {here}"
            yield _finding(Rule.UPSTREAM_COMMIT_DIFFERS, repo.id, message, "git restore hub.lock: somebody edited it")
    except RefNotFound:
        # that it is gone was told of by its ref
        return
    except IntegrityError as error:
        message = f"commit {repo.commit} of {repo.id} cannot be proven: {error.message}"
        yield _finding(Rule.UPSTREAM_COMMIT_DIFFERS, repo.id, message, _KEEP)
    except HublockError as error:
        yield _unreachable(f"commit {repo.commit[:12]} of {repo.id}", error)


def _of_other_ref(repo: Repo, seen: Move) -> Iterator[Finding]:
    """Judge a repository whose lock follows another ref than its name does: one moved by ``update --precise``."""
    commit = seen.remote.refs().get(repo.ref)
    if commit is None:
        message = (
            f"{repo.ref}, which led to the locked commit of {repo.id}, is gone; {repo.id} is {seen.resolved.ref} by now"
        )
        allowed = ["--allow-rewritten"] if seen.surprising else []
        yield _finding(Rule.UPSTREAM_REF_GONE, repo.id, message, _update(repo.id, *allowed))
    elif commit != repo.commit and seen.remote.history(commit, repo.commit).descends is False:
        message = f"{repo.ref} of {repo.id} was rewritten: the locked {repo.commit[:12]} is not in its history"
        yield _finding(Rule.UPSTREAM_REWRITTEN, repo.id, message, _update(repo.id, "--allow-rewritten"))


def _moved(repo: Repo, seen: Move) -> Finding:
    here, there = repo.commit[:12], seen.resolved.commit[:12]
    name = short(repo.ref)
    if seen.trend == "retagged":
        message = f"the tag {name} of {repo.id} points to {there} by now, not to the locked {here}"
        return _finding(Rule.UPSTREAM_TAG_MOVED, repo.id, message, _update(repo.id, "--allow-rewritten"))
    if seen.trend == "rewritten":
        message = f"{name} of {repo.id} was rewritten to {there}: the locked {here} is not in its history"
        return _finding(Rule.UPSTREAM_REWRITTEN, repo.id, message, _update(repo.id, "--allow-rewritten"))
    far = distance(seen.history.commits)
    ahead = f", {far} on" if far else ""
    message = f"{name} of {repo.id} is {there} by now{ahead}, not the locked {here}"
    return _finding(Rule.UPSTREAM_BRANCH_MOVED, repo.id, message, f"hublock update {shlex.quote(repo.id)}")


def of_failure(repo: Repo, error: HublockError) -> Finding:
    """Say why a repository could not be asked what its ref names."""
    reference = Reference.parse(repo.id)
    if isinstance(error, RepositoryNotFound):
        message = f"{repo.id} is gone: {error.message}"
        return _finding(Rule.UPSTREAM_REPOSITORY_GONE, repo.id, message, error.hint or "keep the store")
    if isinstance(error, RefNotFound):
        message = f"{reference.ref or 'the default branch'} of {reference.location} is gone: {error.message}"
        return _finding(Rule.UPSTREAM_REF_GONE, repo.id, message, "keep the store, or hublock add another ref")
    if isinstance(error, InputError):
        message = f"{repo.id} no longer names one commit: {error.message}"
        return _finding(Rule.UPSTREAM_TAG_MOVED, repo.id, message, error.hint or _update(repo.id))
    return _unreachable(repo.id, error)


def _update(name: str, *options: str) -> str:
    return f"hublock update {shlex.join([name, *options])}, if you trust that"


def _unreachable(subject: str, error: HublockError) -> Finding:
    message = f"{subject} could not be asked for: {error.message}"
    return _finding(Rule.UPSTREAM_UNREACHABLE, subject, message, error.hint or "try again later")


def _finding(rule: Rule, subject: str, message: str, hint: str) -> Finding:
    return Finding(rule=rule, subject=subject, message=message, hint=hint)
