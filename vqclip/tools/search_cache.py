"""What the cache holds of searches: which folders were indexed by which model, and forgetting them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vqclip.common.files import writing
from vqclip.common.paths import is_file, listing
from vqclip.folders.search_index import read_index, search_dir


@dataclass(frozen=True)
class StoredIndex:
    """An index in the cache: its file and that one's bytes, and the folder, model and number of pictures in it.

    An index that cannot be read, or is of an older version, has no folder and no pictures.
    """

    path: Path
    bytes: int
    folder: str
    model: str
    pictures: int


def stored_indexes() -> Iterator[StoredIndex]:
    """Yield every index in the cache, by name."""
    for path in listing(search_dir(), "*.npz"):
        if is_file(path):
            index = read_index(path)
            yield StoredIndex(path, path.stat().st_size, index.folder, index.model, len(index.names))


def forget_folder(folder: Path) -> list[StoredIndex]:
    """Delete the indexes of a folder, which need not exist any more, by all models; return what was deleted.

    Raises:
        OutputError: the cache cannot be written.
    """
    gone = [index for index in stored_indexes() if index.folder == str(folder.resolve())]
    for index in gone:
        with writing(index.path):
            index.path.unlink(missing_ok=True)
            index.path.with_suffix(".lock").unlink(missing_ok=True)
    return gone
