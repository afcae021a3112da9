"""Frames: the pictures on the way, and the videos made of them."""

import contextlib
import re
from collections.abc import Container
from pathlib import Path

from vqclip.common.files import writing
from vqclip.common.images import to_image
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.picture import Compose, save_picture
from vqclip.outputs.video import FRAMES_A_SECOND, write_video

NAME = re.compile(r"(\d{6,})(?:-(\d+))?\.png", re.ASCII)


def frame_files(folder: Path, picture: int | None = None) -> list[Path]:
    """Return the frames in a folder by their step, those of all pictures, or of one (None in its name counts as 0)."""
    found = [(match, path) for path in folder.glob("*.png") if (match := NAME.fullmatch(path.name))]
    return [
        path
        for match, path in sorted(found, key=lambda pair: (int(pair[0][1]), int(pair[0][2] or 0)))
        if picture is None or int(match[2] or 0) == picture
    ]


class Frames:
    """Writes each picture after these steps as `000050.png`, or `000050-1.png` when there are several."""

    def __init__(self, folder: Path, numbers: Container[int], compose: Compose = to_image) -> None:
        self.folder = folder
        self.numbers = numbers
        self.compose = compose

    def step(self, step: Step) -> None:
        """Write the frames when it is time."""
        if step.number in self.numbers:
            images = step.render()
            for picture, pixels in enumerate(images):
                save_picture(self.folder / frame_name(step.number, picture, len(images)), pixels, compose=self.compose)

    def finish(self, finished: Finished) -> None:
        """Write the last frame, unless its step was written already."""
        for picture, pixels in enumerate(finished.images):
            path = self.folder / frame_name(finished.step, picture, len(finished.images))
            if not path.exists():
                save_picture(path, pixels, compose=self.compose)

    def stop(self, last: Step | None) -> None:
        """Keep what is there."""


class Videos:
    """Makes one video per picture out of the frames when the run is finished."""

    def __init__(self, frames: Path, videos: list[Path], keep_frames: bool, rate: int = FRAMES_A_SECOND) -> None:
        self.frames = frames
        self.videos = videos
        self.keep_frames = keep_frames
        self.rate = rate

    def step(self, step: Step) -> None:
        """Wait for the end."""

    def finish(self, finished: Finished) -> None:
        """Encode the frames; remove them when they were only made for this."""
        for picture, video in enumerate(self.videos):
            write_video(video, frame_files(self.frames, picture), self.rate)
        if not self.keep_frames:
            with writing(self.frames):
                for frame in frame_files(self.frames):
                    frame.unlink()
            with contextlib.suppress(OSError):  # a file of the user's is in it
                self.frames.rmdir()

    def stop(self, last: Step | None) -> None:
        """Leave the frames for the run that goes on."""


def frame_name(number: int, picture: int = 0, count: int = 1) -> str:
    """Return the name of one of `count` pictures after a step."""
    return f"{number:06d}.png" if count == 1 else f"{number:06d}-{picture}.png"
