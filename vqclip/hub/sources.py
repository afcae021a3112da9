"""Where a published file is."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class HubFile:
    """A file on Hugging Face."""

    repository: str
    file: str
    revision: str = "main"

    @property
    def host(self) -> str:
        """Where it is, for messages."""
        return f"huggingface.co/{self.repository}"


@dataclass(frozen=True)
class WebFile:
    """A file behind a plain link; `member` is the one wanted of a zip archive, which is all that is read of it."""

    url: str
    member: str | None = None

    @property
    def host(self) -> str:
        """Where it is, for messages."""
        return urlsplit(self.url).hostname or self.url


Place = HubFile | WebFile
