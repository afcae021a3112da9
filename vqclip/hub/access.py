"""Whether models that are not on this machine may be fetched: the one place where --pull, --offline and
HF_HUB_OFFLINE meet.
"""

import os
import sys
from enum import Enum, auto

from vqclip.common.paths import is_offline


class Access(Enum):
    """How a published model may be had."""

    HERE = auto()
    """Only what is on this machine; nobody asked for more."""

    FORBIDDEN = auto()
    """Fetching was asked for, and working offline forbids it."""

    FETCH = auto()
    """What is missing is fetched."""


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
