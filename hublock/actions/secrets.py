"""What must not enter a lock, which everybody may read."""

from urllib.parse import parse_qsl, urlsplit

from hublock.actions.context import Context
from hublock.errors import InputError

_SIGNED = {"sig", "signature", "token", "x-amz-signature", "x-goog-signature", "expires", "awsaccesskeyid"}
SHORTEST = 8
"""Letters of the shortest text that is taken for a token: a shorter one would be found everywhere."""


def refuse_tokens(text: str, where: str, context: Context) -> None:
    """Refuse a text that holds a token of this environment, without repeating it.

    Raises:
        InputError: it does; ``where`` says what it is, as the subject of a sentence.
    """
    if any(token in text for token in context.settings.tokens.values() if len(token) >= SHORTEST):
        raise InputError(
            f"{where} holds a token of this environment", hint="leave it out: it is sent to its own host anyway"
        )


def check_url(url: str, context: Context) -> None:
    """Refuse a URL that would carry a secret into the lock, and warn of one that will not last.

    Raises:
        InputError: it is no URL, or holds a user name, a password or a credential of this environment.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(f"{url!r} is not a URL: {error}", hint="check the URL") from None
    if parts.username or parts.password:
        raise InputError(
            f"a URL at {parts.hostname} holds a user name or password, which must not enter a lock",
            hint="put the credentials into ~/.netrc",
        )
    refuse_tokens(url, f"a URL at {parts.hostname}", context)
    if any(key.lower() in _SIGNED for key, _ in parse_qsl(parts.query, keep_blank_values=True)):
        context.progress.warn(f"{parts.scheme}://{parts.netloc}{parts.path} is a signed URL, which will not last")
