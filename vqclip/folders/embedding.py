"""Embedding picture files: decoded by several threads, seen by a perceptor in batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.images import open_image
from vqclip.models.perceptor import Perceptor

BATCH = 32
"""Pictures that the image tower sees at once."""

READERS = 4
"""Threads that decode; Pillow leaves Python's lock meanwhile."""


def embed_files(perceptor: Perceptor, paths: Iterable[Path]) -> Iterator[tuple[Path, Tensor | UsageError]]:
    """Yield each path with its unit vector (D,) on the CPU, or with why it is no picture; in the order given.

    Who stops asking does not wait for what is being decoded.
    """
    pool = ThreadPoolExecutor(READERS, "reader")
    try:
        for batch in _batches(_ahead(pool, paths, lambda path: _read(perceptor, path))):
            yield from _embed(perceptor, batch)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(perceptor: Perceptor, path: Path) -> Tensor | UsageError:
    try:
        return perceptor.view_picture(open_image(path))
    except UsageError as error:
        return error


def _ahead(
    pool: ThreadPoolExecutor, paths: Iterable[Path], read: Callable[[Path], Tensor | UsageError]
) -> Iterator[tuple[Path, Tensor | UsageError]]:
    """Read two batches ahead of who asks, so that memory stays bounded."""
    waiting = iter(paths)
    started: deque[tuple[Path, Future[Tensor | UsageError]]] = deque()
    while True:
        for path in islice(waiting, 2 * BATCH - len(started)):
            started.append((path, pool.submit(read, path)))
        if not started:
            return
        path, future = started.popleft()
        yield path, future.result()


def _batches(read: Iterator[tuple[Path, Tensor | UsageError]]) -> Iterator[list[tuple[Path, Tensor | UsageError]]]:
    while batch := list(islice(read, BATCH)):
        yield batch


@torch.no_grad()
def _embed(
    perceptor: Perceptor, batch: list[tuple[Path, Tensor | UsageError]]
) -> Iterator[tuple[Path, Tensor | UsageError]]:
    views = [view for _, view in batch if isinstance(view, Tensor)]
    vectors = iter(perceptor.encode_image(torch.stack(views).to(perceptor.device)).cpu() if views else ())
    for path, view in batch:
        yield path, next(vectors) if isinstance(view, Tensor) else view
