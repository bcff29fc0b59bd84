"""What every verb works with: settings, store, the way out, and somebody to tell."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from hublock.core.progress import Progress
from hublock.settings import Settings
from hublock.store.store import Store

if TYPE_CHECKING:
    from hublock.net.download import Downloader
    from hublock.net.transport import HttpTransport


@dataclass(frozen=True, kw_only=True)
class Context:
    """The surroundings of one command; who never asks for the network never imports it."""

    settings: Settings
    progress: Progress = field(default_factory=Progress)

    @cached_property
    def store(self) -> Store:
        """The store of this user."""
        return Store(self.settings.cache)

    @cached_property
    def transport(self) -> "HttpTransport":
        """The one way to the network."""
        from hublock.net.releases import Releases

        return Releases(self.settings, progress=self.progress)

    def downloader(self) -> "Downloader":
        """Return a downloader into the store, which takes over what torch.hub's own cache holds already."""
        from hublock.net.download import Downloader

        torch_home = self.settings.torch_home
        return Downloader(
            self.transport,
            self.store,
            progress=self.progress,
            jobs=self.settings.jobs,
            adopt_from=torch_home / "hub" / "checkpoints" if torch_home else None,
        )
