"""Keeping a command off the network."""

import os


def stay_offline() -> None:
    """Keep huggingface_hub, which reads this when it is imported later, from waiting for the network."""
    os.environ["HF_HUB_OFFLINE"] = "1"
