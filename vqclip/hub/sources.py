"""Where a published file is."""

import os
from dataclasses import dataclass
from urllib.parse import quote, urlsplit


def endpoint() -> str:
    """The address of the model hub: HF_ENDPOINT, for a mirror of it, or Hugging Face's own."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_place(repository: str) -> str:
    """Where a repository is, for messages: the host that is really asked."""
    return f"{endpoint().partition('://')[2] or endpoint()}/{repository}"


@dataclass(frozen=True)
class HubFile:
    """A file on Hugging Face, or on the mirror of it that HF_ENDPOINT names."""

    repository: str
    file: str
    revision: str = "main"

    @property
    def host(self) -> str:
        """Where it is, for messages."""
        return hub_place(self.repository)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{endpoint()}/{self.repository}/resolve/{quote(self.revision, safe='')}/{quote(self.file)}"

    @property
    def member(self) -> None:
        """It is the file that is wanted, and no archive around it."""
        return None


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
