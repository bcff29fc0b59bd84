"""What every verb works with: settings, store, the way out, and somebody to tell."""

from dataclasses import dataclass, field
from functools import cached_property

from hublock.core.progress import Progress
from hublock.net.download import Downloader
from hublock.net.transport import HttpTransport, Transport
from hublock.settings import Settings
from hublock.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Context:
    """The surroundings of one command."""

    settings: Settings
    progress: Progress = field(default_factory=Progress)

    @cached_property
    def store(self) -> Store:
        """The store of this user."""
        return Store(self.settings.cache)

    @cached_property
    def transport(self) -> Transport:
        """The one way to the network."""
        return HttpTransport(self.settings)

    def downloader(self) -> Downloader:
        """Return a downloader into the store, which takes over what torch.hub's own cache holds already."""
        torch_home = self.settings.torch_home
        return Downloader(
            self.transport,
            self.store,
            progress=self.progress,
            jobs=self.settings.jobs,
            adopt_from=torch_home / "hub" / "checkpoints" if torch_home else None,
        )
