"""Where hosts keep what a reference names: the address git clones from, and the address of an archive."""

from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from hublock.core.reference import Reference
from hublock.core.tree import SourceFile
from hublock.errors import RepositoryNotFound, TransferError, UnsafeArchive
from hublock.net.transport import HttpTransport
from hublock.store.unpack import read_archive

GITHUB = "github.com"
MAX_ARCHIVE = 1 << 30
"""Bytes of an archive; the largest of a public hub repository has 82 MB."""


def git_url(reference: Reference) -> str:
    """Return the URL git clones ``reference`` from; not for local paths."""
    if reference.kind == "github":
        return f"https://{GITHUB}/{reference.location}.git"
    return reference.location.removeprefix("git+")


def github_name(url: str) -> str | None:
    """Return ``owner/repo`` if ``url`` is the address of a repository on GitHub."""
    parts = urlsplit(url)
    path = parts.path.strip("/").removesuffix(".git")
    return path if parts.hostname == GITHUB and path.count("/") == 1 else None


def moved(reference: Reference, url: str) -> Reference | None:
    """Return the reference that ``url``, the address after redirects, should be called by, if it is another.

    GitHub answers an old name with a redirect for as long as nobody else takes it.
    """
    if reference.kind == "local" or _plain(git_url(reference)) == _plain(url):
        return None
    name = github_name(url) if reference.kind == "github" else None
    if name is not None:
        return Reference(kind="github", location=name, ref=reference.ref)
    return Reference(kind="git", location=f"git+{url}", ref=reference.ref)


def _plain(url: str) -> str:
    plain = url.rstrip("/").removesuffix(".git")
    return plain.lower() if github_name(url) else plain


def archive_url(reference: Reference, commit: str) -> str | None:
    """Return the address of the zip archive of ``commit``; None where the host has none.

    GitLab has its own pattern; GitHub Enterprise, Gitea and Forgejo share GitHub's.
    """
    if reference.kind == "local" or not git_url(reference).startswith("https://"):
        return None
    url = git_url(reference).rstrip("/").removesuffix(".git")
    name = github_name(url)
    if name is not None:
        return f"https://codeload.{GITHUB}/{name}/zip/{commit}"
    host = urlsplit(url).hostname or ""
    if host.split(".")[0] == "gitlab" or ".gitlab." in host:
        return f"{url}/-/archive/{commit}/{quote(url.rpartition('/')[2])}-{commit}.zip"
    return f"{url}/archive/{commit}.zip"


def fetch_archive(
    reference: Reference, commit: str, transport: HttpTransport, *, route: int | None = None
) -> Sequence[SourceFile]:
    """Return the files of the zip archive that the host makes of ``commit``, by the ``route``-th way.

    They prove nothing: use them only if they reproduce the digest of a lock. Hosts apply attributes (export-ignore,
    export-subst, eol) to archives, so the files of a few repositories differ from the commit's.

    Raises:
        RepositoryNotFound: the host does not show such an archive.
        TransferError: it could not be fetched.
        UnsafeArchive: it must not be unpacked.
    """
    url = archive_url(reference, commit)
    if url is None:
        raise TransferError(f"the host of {reference} offers no archives", lasting=True)
    try:
        return read_archive(_download(url, transport, route))
    except UnsafeArchive as error:
        raise UnsafeArchive(f"{url}: {error.message}", hint=error.hint) from None


def _download(url: str, transport: HttpTransport, route: int | None) -> bytes:
    with transport.open("GET", url, route=route) as response:
        if response.status in (401, 403, 404):
            raise RepositoryNotFound(
                f"{url} is not shown to us (HTTP {response.status})", hint="check the name, or set GITHUB_TOKEN"
            )
        if response.status != 200:
            raise TransferError(f"{url} answers HTTP {response.status}", hint="try later")
        data = bytearray()
        for chunk in response.chunks():
            data += chunk
            if len(data) > MAX_ARCHIVE:
                raise UnsafeArchive(f"it has more than {MAX_ARCHIVE} bytes")
    # as a host that limits visitors, or a network that wants a login, answers
    if not data.startswith(b"PK"):
        raise TransferError(f"{url} answers with something that is no zip archive", hint="try later")
    return bytes(data)
