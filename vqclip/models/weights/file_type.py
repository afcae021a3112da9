"""Telling what a file is by its first bytes, whatever its name."""

from pathlib import Path

FORMATS = ("safetensors", "zip", "pickle")
"""Kinds of file that hold tensors: torch.save writes a zip today, and wrote a bare pickle before 1.6."""


OTHER = "no checkpoint"
"""What holds no tensors and is none of the pages that stand in for a file: a config, for instance."""


def sniff(path: Path) -> str:
    """Return one of FORMATS, or what the file is instead: "an empty file", "a web page", …

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return "an empty file"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "a web page"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    signatures = {
        "zip": head[:4] == b"PK\x03\x04",
        "safetensors": head[8:9] == b"{",
        "pickle": head[:1] == b"\x80",
    }
    return next((kind for kind, matches in signatures.items() if matches), OTHER)
