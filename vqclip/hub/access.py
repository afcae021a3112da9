"""Whether models that are not on this machine may be fetched: the one place where --pull, --offline and
HF_HUB_OFFLINE meet.
"""

import os
import sys
from enum import Enum, auto

from vqclip.common.errors import ModelError
from vqclip.common.paths import is_offline


class Access(Enum):
    """How a published model may be had."""

    HERE = auto()
    """Only what is on this machine; nobody asked for more."""

    FORBIDDEN = auto()
    """Fetching was asked for, and working offline forbids it."""

    FETCH = auto()
    """What is missing is fetched."""


def not_here(what: str, pull: str, access: Access, otherwise: str, size: str = "") -> ModelError:
    """Return the error that says that `what` is not on this machine: how it is fetched, as `pull` and with its `size`
    if that is known, or why it may not be, and what can be done `otherwise`.
    """
    how = f"so fetch it{f' ({size})' if size else ''} with: vqclip models pull {pull}"
    if access is Access.FORBIDDEN:
        how = "and working offline forbids fetching it"
    return ModelError(f"{what} is not on this machine, {how}; {otherwise}")


def choose_access(pull: bool, offline: bool = False) -> Access:
    """Turn `--pull` and `--offline` into an access, and keep the hub's library off the network unless they fetch.

    The library reads HF_HUB_OFFLINE when it is imported, so one that is imported already is told too.
    """
    if pull and not (offline or is_offline()):
        _share_certificates()
        return Access.FETCH
    os.environ["HF_HUB_OFFLINE"] = "1"
    if "huggingface_hub" in sys.modules:
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True
    return Access.FORBIDDEN if pull else Access.HERE


def _share_certificates() -> None:
    """Let the hub's library, which fetches tokenisers, trust the certificates that our own downloads trust."""
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if named and not os.environ.get("SSL_CERT_FILE"):
        os.environ["SSL_CERT_FILE"] = named
