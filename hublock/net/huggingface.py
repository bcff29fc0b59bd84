"""What Hugging Face tells of a revision of a repository: its commit, and the files in it."""

import json
from urllib.parse import quote

from hublock.core.digest import Digest
from hublock.core.inventory import HUGGING_FACE
from hublock.errors import TransferError
from hublock.net.retry import LATER, ask
from hublock.net.transport import HttpTransport

LONGEST_LISTING = 32 << 20
"""Bytes of one answer, all files of a revision among it."""


def ask_revision(repo: str, type: str, revision: str, transport: HttpTransport) -> tuple[str, tuple[str, ...]]:
    """Return the commit that a revision names now, and the names of its files.

    Raises:
        TransferError: the host could not be reached, refuses, or does not tell.
    """
    # a file's own URL tells its commit only before it redirects to where the bytes are; a revision may hold slashes
    url = f"{HUGGING_FACE}/api/{type}s/{repo}/revision/{quote(revision, safe='')}"
    with ask(transport, "GET", url) as answer:
        status, body = answer.status, answer.read(LONGEST_LISTING)
    if status != 200:
        hint = "set HF_TOKEN" if status in (401, 403) else LATER
        raise TransferError(f"{url} answers with status {status}", hint=hint)
    try:
        told = json.loads(body)
        return Digest("git-sha1", told["sha"]).hex, tuple(str(item["rfilename"]) for item in told["siblings"])
    except (ValueError, KeyError, TypeError):
        raise TransferError(f"{url} does not tell what {repo} holds", hint=LATER) from None
