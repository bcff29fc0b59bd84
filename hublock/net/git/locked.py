"""The source a lock names, from whichever of its host's services lets us in."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

from hublock.core.digest import Digest
from hublock.core.progress import Progress
from hublock.core.reference import Reference
from hublock.core.tree import SourceFile, digest_of
from hublock.errors import RefNotFound, RemoteError, RepositoryNotFound, TransferError, TreeMismatch, UnsafeArchive
from hublock.net.git.hosts import archive_url, fetch_archive, git_url
from hublock.net.git.remote import open_remote
from hublock.net.git.smart import credentials
from hublock.net.routes import passed_over
from hublock.net.transport import HttpTransport


class _OtherFiles(TransferError):
    """The archive of a commit does not hold the files that are locked."""


def fetch_locked(
    reference: Reference, commit: str, digest: Digest, transport: HttpTransport, *, base: Path, progress: Progress
) -> Sequence[SourceFile]:
    """Return the files of ``commit``, which hash to ``digest``: by git, or if git is refused by the host's archive.

    Hosts limit visitors of git and of archives apart, so one may answer while the other does not.

    Raises:
        RepositoryNotFound: neither git nor the archive is shown to us.
        RefNotFound: the host no longer has the commit.
        TransferError: the host could not be reached, or refuses git and has an archive of other files.
        TreeMismatch: what came by git is not what was locked.
        UnsafeArchive: it must not be unpacked.
    """
    try:
        remote = open_remote(reference, transport, base=base, progress=progress)
        files = remote.fetch(commit, progress=progress).files
    except RefNotFound as gone:
        update = f"hublock update {quote(str(reference))} --allow-rewritten"
        gone.hint = f"if its history was rewritten, {update} follows it"
        raise
    except (RepositoryNotFound, TransferError) as refused:
        if archive_url(reference, commit) is None:
            raise
        progress.note(f"{refused.message}; trying the archive of the commit")
        try:
            return _archive(reference, commit, digest, transport, progress)
        except RemoteError as error:
            refused.message += f"; and {error.message}"
            if isinstance(refused, RepositoryNotFound) and isinstance(error, _OtherFiles):
                # who has its archive has the repository
                host = urlsplit(git_url(reference)).hostname or ""
                raise TransferError(refused.message, hint=f"try later, or {credentials(host)}") from None
            raise refused from None
    found = digest_of(files)
    if found != digest:
        raise TreeMismatch(
            f"commit {commit} of {reference.location} is {found}, not {digest} as locked",
            hint="hublock update moves the pin, if you trust it",
        )
    return files


def _archive(
    reference: Reference, commit: str, digest: Digest, transport: HttpTransport, progress: Progress
) -> Sequence[SourceFile]:
    """Return the files of the archive; a mirror of it that has others than those of ``digest`` is passed over."""
    url = archive_url(reference, commit) or ""
    ways = transport.routes(url)

    def ask(route: int) -> Sequence[SourceFile]:
        files = fetch_archive(reference, commit, transport, route=route)
        if digest_of(files) != digest:
            # no mismatch: hosts leave out and change files of archives as .gitattributes says
            raise _OtherFiles(f"{url} holds other files than the locked ones, as archives may", lasting=True)
        return files

    for number, way in enumerate(ways[:-1]):
        try:
            return ask(number)
        except (RemoteError, UnsafeArchive) as error:
            progress.warn(passed_over(way, ways[number + 1], error.message))
    return ask(len(ways) - 1)
