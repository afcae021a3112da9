"""The C library's memory: keep what a step freed for the next one.

By default glibc hands every large block back to the system and asks for it anew, page by page; every step then
touches hundreds of thousands of fresh pages, which the system must clear first.
"""

import ctypes
import os

# malloc.h of the GNU C library; mallopt(3)
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = -1  # for M_TRIM_THRESHOLD: nothing that is free at the heap's end goes back
GROWTH = 64 * 2**20  # bytes that the heap grows by


def worth_keeping(precision: str, low_memory: bool) -> bool:
    """Whether a step's freed memory should stay: where memory is short, only in bf16.

    The gaps in the heap cost up to a third of a step's peak there, from 256 to 640 pixels, and half of it in fp32.
    """
    return precision == "bf16" or not low_memory


def keep_freed_memory() -> bool:
    """Have malloc take large blocks from the heap, and never shrink it, from now on; the process needs no more than at
    its peak. Return False where the C library is another, and nothing changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, GROWTH))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in settings)
