"""Turning a list of frame files into mp4, gif or webp."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from PIL import Image

from vqclip.common.errors import UsageError
from vqclip.common.files import replacing
from vqclip.common.registry import pick

FRAMES_A_SECOND = 15
HELD = 1
"""Seconds that the last frame, the finished picture, stays."""


def check_video(suffix: str) -> None:
    """Find out before a run whether its video can be made.

    Raises:
        UsageError: mp4 without the package that encodes it.
    """
    if suffix == "mp4" and find_spec("av") is None:
        raise UsageError("--video mp4 needs PyAV: pip install 'vqclip[video]', or use --video webp.")


def write_video(path: Path, frames: Sequence[Path], rate: int = FRAMES_A_SECOND) -> None:
    """Encode the frames, in order, `rate` a second, and hold the last for a second; whole or not at all."""
    with replacing(path) as part:
        pick(WRITERS, path.suffix.lstrip("."), "video format")(part, frames, rate)


def _write_mp4(part: Path, frames: Sequence[Path], rate: int) -> None:
    """H.264 at constant quality 17, visually lossless (x264's own scale)."""
    import av

    with av.open(str(part), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "17"})
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = (side - side % 2 for side in _open(frames[0]).size)
        for frame in [*frames, *[frames[-1]] * (HELD * rate - 1)]:
            container.mux(stream.encode(av.VideoFrame.from_image(_open(frame))))
        container.mux(stream.encode())


def _write_gif(part: Path, frames: Sequence[Path], rate: int) -> None:
    """A GIF counts in hundredths of a second."""
    _write_with_pillow(part, frames, rate, "GIF", tick=10)


def _write_webp(part: Path, frames: Sequence[Path], rate: int) -> None:
    """A WebP counts in thousandths of a second."""
    _write_with_pillow(part, frames, rate, "WEBP", tick=1)


def _write_with_pillow(part: Path, frames: Sequence[Path], rate: int, kind: str, tick: int) -> None:
    """Show each frame for some ticks, of so many milliseconds, that all together keep the rate."""
    begins = [tick * round(1000 * number / (rate * tick)) for number in range(len(frames))]
    durations = [*(end - begin for begin, end in pairwise(begins)), 1000 * HELD]
    rest = (_open(frame) for frame in frames[1:])
    _open(frames[0]).save(part, kind, save_all=True, append_images=rest, duration=durations, loop=0, quality=90)


def _open(path: Path) -> Image.Image:
    with Image.open(path, formats=("PNG",)) as image:
        return image.convert("RGB")


WRITERS = {"mp4": _write_mp4, "gif": _write_gif, "webp": _write_webp}
