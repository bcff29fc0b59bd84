"""Check that the lock answers the manifest and the store holds what the lock names; if asked, the hosts as well."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from hublock.actions.context import Context
from hublock.actions.project import LOCK, MANIFEST, Project, read_named_lock
from hublock.core import changes
from hublock.core.canonical import is_canonical
from hublock.core.digest import Digest
from hublock.core.findings import Finding, Rule, exit_code
from hublock.core.inventory import LockedFile, locked_content
from hublock.core.lockfile import Lock
from hublock.core.matching import Call, Match, match
from hublock.core.places import places
from hublock.core.plan import plan
from hublock.errors import (
    HublockError,
    InputError,
    IntegrityError,
    NotLocked,
    OfflineError,
    StoreError,
    UnlockedDownload,
)
from hublock.store.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What was checked and what was found."""

    findings: tuple[Finding, ...]
    models: int
    trees: int
    files: int
    size: int
    """Bytes of the files and trees that were checked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checks:
    """What to check beside lock, manifest and store."""

    deep: bool = False
    """Hash every byte again, also where size and times are as they were when it was last hashed."""
    upstream: bool = False
    """Ask the hosts whether they still hold what the lock names."""
    against: Path | None = None
    """Another lock, which must pin the same."""
    load: Sequence[str] = ()
    """Names of models to load, whose state must be the locked one."""


def verify(project: Project, context: Context, checks: Checks) -> Verified:
    """Check lock, manifest and store against each other; without ``upstream``, no network.

    Nothing is written, and nothing is imported but what ``load`` names, once all else was found right. Without a
    manifest the lock is checked alone, with a warning.

    Raises:
        NotLocked: there is no lock, or ``against`` leads to none, or the lock has no model to load of that name.
        InvalidLock: a lock cannot be read.
        InvalidManifest: the manifest cannot be read.
    """
    lock = read_named_lock(project.lock)
    to_load = {name: match(lock, name, None, file=str(project.lock)) for name in checks.load}
    if not project.manifest.exists():
        context.progress.warn(f"{project.folder} holds no {MANIFEST}: whether {LOCK} answers it was not checked")
    findings = [*_lock_findings(project, lock), *_differences(project, lock, checks.against)]
    stored = _check_store(lock, context, deep=checks.deep)
    findings += stored.findings
    findings += _input_findings(project, lock)
    if checks.deep:
        from hublock.actions.verdicts import check_verdicts

        findings += check_verdicts(lock, context)
    if checks.upstream:
        from hublock.actions.upstream import check_upstream

        findings += check_upstream(lock, context, base=project.folder, deep=checks.deep)
    if exit_code(finding.exit_code for finding in findings) in (0, 1):
        # each once, as in one process
        warned: dict[str, None] = {}
        for name, found in to_load.items():
            sentences, more = _state_findings(name, found, lock, context.store, project.folder)
            warned |= dict.fromkeys(sentences)
            findings += more
        for sentence in warned:
            context.progress.warn(sentence)
    return replace(stored, findings=tuple(_placed(findings, project)))


def failed(error: HublockError, project: Project) -> tuple[Finding, ...]:
    """Return, as a finding for machines to show, why a lock or a manifest could not be checked at all.

    Raises:
        HublockError: ``error``, where it is not about one of the two files.
    """
    told = (file for file in (project.lock, project.manifest) if error.message.startswith((f"{file}: ", f"{file} ")))
    file = next(told, None)
    missing = isinstance(error, NotLocked) and not project.lock.exists()
    # another lock beside ours may be at fault
    if file is None or not (missing or isinstance(error, InputError)):
        raise error
    rule: Rule = Rule.LOCK_MISSING if missing else Rule.LOCK_INVALID if file == project.lock else Rule.MANIFEST_INVALID
    line = re.match(r": line (\d+)", error.message.removeprefix(str(file)))
    finding = Finding(
        rule=rule,
        subject=file.name,
        message=error.message,
        hint=error.hint or "hublock lock",
        file=str(file),
        line=int(line[1]) if line else None,
    )
    return (finding,)


def _placed(findings: Iterable[Finding], project: Project) -> list[Finding]:
    """Say where in the lock each finding stands."""
    known = places(project.lock_text())

    def line(subject: str) -> int | None:
        # a stale entry is named with its kind
        return known.get(subject, known.get(subject.partition(" ")[2]))

    return [replace(finding, file=str(project.lock), line=line(finding.subject)) for finding in findings]


def _differences(project: Project, lock: Lock, against: Path | None) -> Iterator[Finding]:
    other = read_named_lock(against, hint="check the path of --against") if against else lock
    for change in changes.compare(other, lock):
        what = f" {change.what}" if change.what else ""
        sides = {"added": f"{change.new or 'it is'} only here", "removed": f"{change.old or 'it is'} only there"}
        said = sides.get(change.kind, f"{change.old} there, {change.new} here")
        yield Finding(
            rule=Rule.LOCK_DIFFERS,
            subject=change.entry.partition(" ")[2] or project.lock.name,
            message=f"{project.lock} differs from {against} in {change.entry}{what}: {said}",
            hint=f"hublock diff {quote(str(against))}",
        )


def _state_findings(name: str, found: Match, lock: Lock, store: Store, folder: Path) -> tuple[list[str], list[Finding]]:
    """Return the warnings of a load and what it found."""
    from hublock.runtime.apart import apart

    try:
        # where their inputs are, as when they were traced
        return apart(name, _loaded, name, found, lock, store, folder=folder)
    except HublockError as error:
        return [], [_of_load(name, error)]


def _loaded(name: str, found: Match, lock: Lock, store: Store) -> tuple[list[str], list[Finding]]:
    """Load the model ``name`` and return the warnings and the findings."""
    from hublock.actions import load as loading
    from hublock.actions.proof import check_state
    from hublock.runtime.apart import broken

    call = Call(match=found)
    warned: list[str] = []
    try:
        check_state(loading.load(call, lock, store, warn=warned.append), call)
    except HublockError as error:
        return warned, [_of_load(name, error)]
    except BaseException as error:  # noqa: BLE001 - what its code raises is not our bug
        return warned, [_of_load(name, broken(name, f"raised {_told(error)}"))]
    return warned, []


def _of_load(name: str, error: HublockError) -> Finding:
    rule = next(rule for kind, rule in _LOADING.items() if isinstance(error, kind))
    return Finding(rule=rule, subject=name, message=error.message, hint=error.hint or "hublock verify --deep")


_LOADING: dict[type[HublockError], Rule] = {
    IntegrityError: Rule.STATE_DIFFERS,
    NotLocked: Rule.STATE_MISSING,
    UnlockedDownload: Rule.LOAD_UNLOCKED,
    HublockError: Rule.LOAD_FAILED,
}
"""What an error of a load is as a finding: the first that fits."""


def _told(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        return f"{kind}: {' '.join(str(error).split())}"
    except Exception:  # noqa: BLE001 - its text is foreign code as well
        return kind


def _check_store(lock: Lock, context: Context, *, deep: bool) -> Verified:
    findings = []
    size = 0
    with context.progress.task("verifying", _total(lock, context)) as task:
        repos = {repo.digest: repo for repo in lock.repos}.values()
        for repo in repos:
            found, length = _check_tree(repo.id, repo.digest, context, deep=deep)
            findings += [found] if found else []
            size += 0 if found else length
            task.advance(length)
        files = locked_content(lock)
        # several at once: hashing leaves the other cores free
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            checked = pool.map(lambda file: _check_file(file, context, deep=deep), files)
            for file, found in zip(files, checked, strict=True):
                findings += [found] if found else []
                size += 0 if found else file.size
                task.advance(file.size)
    models = len(lock.models)
    return Verified(findings=tuple(findings), models=models, trees=len(repos), files=len(files), size=size)


def _lock_findings(project: Project, lock: Lock) -> Iterator[Finding]:
    if not is_canonical(project.lock_text()):
        yield Finding(
            rule=Rule.LOCK_NOT_CANONICAL,
            subject=project.lock.name,
            message=f"{project.lock} was edited by hand: it is not as hublock writes it",
            hint="git diff hub.lock, then hublock lock",
        )
    if project.manifest.exists():
        for reason in plan(project.read_manifest(), lock).reasons:
            yield Finding(
                rule=Rule.LOCK_STALE,
                subject=_entry(reason),
                message=f"{project.lock} does not answer the manifest: {reason}",
                hint="hublock lock",
            )


def _entry(reason: str) -> str:
    """Return the kind and the name with which a reason begins; that of a repository may hold spaces."""
    found = re.match(r"repository .+?(?= is )|\S+ \S+", reason)
    return found[0] if found else reason


def _input_findings(project: Project, lock: Lock) -> Iterator[Finding]:
    """Compare the files that are handed in with the locked ones, where they lie here: no load takes others."""
    rows = [(model.name, given) for model in lock.models for given in model.inputs]
    if not rows:
        return
    # few locks have any
    from hublock.runtime.answers import sha256_now

    for name, given in rows:
        path = project.folder / given.name
        with suppress(OSError):
            if sha256_now(path) != given.digest:
                yield Finding(
                    rule=Rule.INPUT_DIFFERS,
                    subject=given.name,
                    message=f"{path} is not the locked input of model {name}",
                    hint=f"put the locked file there, or lock this one: hublock lock --retrace {quote(name)}",
                )


def _total(lock: Lock, context: Context) -> int:
    sizes = [_size(digest, context) for digest in {repo.digest for repo in lock.repos}]
    return sum(file.size for file in locked_content(lock)) + sum(sizes)


def _size(digest: Digest, context: Context) -> int:
    try:
        tree = context.store.tree(digest)
    except (IntegrityError, OSError):
        return 0
    return tree.listing.size if tree else 0


def _check_tree(name: str, digest: Digest, context: Context, *, deep: bool) -> tuple[Finding | None, int]:
    """Return what is wrong with a stored tree, and its size in bytes."""
    try:
        return None, context.store.check_tree(digest, deep=deep).listing.size
    except OfflineError:
        message = f"the tree of {name} is not in the store"
        return Finding(rule=Rule.TREE_MISSING, subject=name, message=message, hint="hublock sync"), 0
    except IntegrityError as error:
        message = f"the stored tree of {name} is not the locked one: {error.message}"
        return Finding(rule=Rule.TREE_DAMAGED, subject=name, message=message, hint=error.hint or "hublock sync"), 0
    except (StoreError, OSError) as error:
        return _unreadable(Rule.TREE_UNREADABLE, name, error, context), 0


def _check_file(file: LockedFile, context: Context, *, deep: bool) -> Finding | None:
    try:
        context.store.check_blob(file.digest, size=file.size, deep=deep)
    except OfflineError:
        message = f"{file.url} is not in the store"
        return Finding(rule=Rule.FILE_MISSING, subject=file.url, message=message, hint="hublock sync")
    except IntegrityError as error:
        return Finding(
            rule=Rule.FILE_DAMAGED,
            subject=file.url,
            message=f"the stored bytes of {file.url} are not the locked ones: {error.message}",
            hint=error.hint or "hublock sync",
        )
    except (StoreError, OSError) as error:
        return _unreadable(Rule.FILE_UNREADABLE, file.url, error, context)
    return None


def _unreadable(rule: Rule, name: str, error: StoreError | OSError, context: Context) -> Finding:
    said = error.message if isinstance(error, StoreError) else f"{error.filename} cannot be read: {error.strerror}"
    hint = f"chmod -R u+rwX {quote(str(context.store.root))}, or set HUBLOCK_CACHE_DIR to another folder"
    return Finding(rule=rule, subject=name, message=f"{name} cannot be checked: {said}", hint=hint)
