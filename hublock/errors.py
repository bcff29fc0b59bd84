"""Every error hublock raises on purpose.

Each message is one sentence with an address (file, entry, URL); each hint is the command that fixes it. The number
is the exit code of the command line.

::

    HublockError                                             70
    ├── InputError                                            2
    │   ├── InvalidReference   (also ValueError)              2
    │   ├── InvalidManifest                                   2
    │   ├── InvalidLock                                       2
    │   └── UnsupportedLockVersion                            2
    ├── StaleLock                                             1
    ├── NotLocked                                             4
    ├── RemoteError                                           5
    │   ├── RepositoryNotFound                                2
    │   ├── RefNotFound                                       2
    │   ├── TransferError                                     5
    │   └── OfflineError                                      4
    ├── IntegrityError         (also RuntimeError)            3
    │   ├── DigestMismatch                                    3
    │   ├── TreeMismatch                                      3
    │   └── UnsafeArchive                                     3
    ├── StoreError                                            7
    ├── EnvironmentMismatch    (also RuntimeError)            6
    │   └── MissingDependency                                 6
    └── LoadError                                             6
        ├── EntrypointNotFound (also RuntimeError)            2
        ├── UnlockedDownload   (also OSError)                 4
        ├── UnsafePickle                                      6
        └── IncompleteTrace                                   6
"""

from typing import ClassVar

SEVERITY = (3, 2, 4, 7, 6, 5, 1)
"""Of several exit codes, the first one in this order wins."""


class HublockError(Exception):
    """Anything hublock refuses or cannot do: a sentence, and a hint that fixes it."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Keep ``message`` (one sentence that names file, entry or URL) and ``hint`` (the command that fixes it)."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class InputError(HublockError):
    """What was typed or written is not valid."""

    exit_code = 2


class InvalidReference(InputError, ValueError):
    """A reference to a repository does not follow the grammar."""


class InvalidManifest(InputError):
    """``hub.toml`` or ``[tool.hublock]`` cannot be read as a manifest."""


class InvalidLock(InputError):
    """``hub.lock`` cannot be read as a lock."""


class UnsupportedLockVersion(InputError):
    """``hub.lock`` was written by a newer hublock."""


class StaleLock(HublockError):
    """The lock does not answer the manifest, or differs from what was asked for."""

    exit_code = 1


class NotLocked(HublockError):
    """No lock was found, or it does not speak of what was asked for."""

    exit_code = 4


class RemoteError(HublockError):
    """The other side, or the line to it."""

    exit_code = 5


class RepositoryNotFound(RemoteError):
    """The host has no such repository, or does not show it to us."""

    exit_code = 2


class RefNotFound(RemoteError):
    """The repository has no such branch, tag or reachable commit."""

    exit_code = 2


class TransferError(RemoteError):
    """Bytes could not be fetched; trying again may help."""

    def __init__(
        self, message: str, *, hint: str | None = None, lasting: bool = False, wait: float | None = None
    ) -> None:
        """Keep message and hint, whether the same request would fail again, and for how many seconds to ``wait``."""
        super().__init__(message, hint=hint)
        self.lasting = lasting
        self.wait = wait


class OfflineError(RemoteError):
    """Something is missing from the store and the network may not be used."""

    exit_code = 4


class IntegrityError(HublockError, RuntimeError):
    """The bytes are not the locked bytes."""

    exit_code = 3


class DigestMismatch(IntegrityError):
    """A file hashes to something else than the lock says."""


class TreeMismatch(IntegrityError):
    """A source tree is not the locked tree."""


class UnsafeArchive(IntegrityError):
    """A tree or archive holds names, links or sizes that must not be unpacked."""


class StoreError(HublockError):
    """The store is full, read-only or cannot be written."""

    exit_code = 7


class EnvironmentMismatch(HublockError, RuntimeError):
    """The installed packages are not what the locked models need."""

    exit_code = 6


class MissingDependency(EnvironmentMismatch):
    """Packages that a repository needs are not installed."""


class LoadError(HublockError):
    """Foreign code could not be run, or did not do what the lock allows."""

    exit_code = 6


class EntrypointNotFound(LoadError, RuntimeError):
    """The repository's hubconf.py has no such entry point."""

    exit_code = 2


class UnlockedDownload(LoadError, OSError):
    """Foreign code asked for a file that the lock does not name.

    Also an OSError, so that fallbacks written for a machine without network keep working.
    """

    exit_code = 4


class UnsafePickle(LoadError):
    """A checkpoint would run code that nobody consented to."""


class IncompleteTrace(LoadError):
    """A trace did not learn everything the entry point fetches, so nothing was locked."""
