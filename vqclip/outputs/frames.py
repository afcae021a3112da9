"""Frames: the pictures on the way, and the videos made of them."""

import shutil
from pathlib import Path

from vqclip.common.files import writing
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.picture import save_picture
from vqclip.outputs.video import write_video


class Frames:
    """Writes each picture every `every` steps as `000050.png`, or `000050-1.png` when there are several."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every

    def step(self, step: Step) -> None:
        """Write the frames when it is time."""
        if step.number % self.every == 0:
            images = step.render()
            for picture, pixels in enumerate(images):
                save_picture(self.folder / _name(step.number, picture, len(images)), pixels)

    def finish(self, finished: Finished) -> None:
        """Write the last frame, unless its step was written already."""
        for picture, pixels in enumerate(finished.images):
            path = self.folder / _name(finished.step, picture, len(finished.images))
            if not path.exists():
                save_picture(path, pixels)

    def stop(self, last: Step | None) -> None:
        """Keep what is there."""


class Videos:
    """Makes one video per picture out of the frames when the run is finished."""

    def __init__(self, frames: Path, videos: list[Path], keep_frames: bool) -> None:
        self.frames = frames
        self.videos = videos
        self.keep_frames = keep_frames

    def step(self, step: Step) -> None:
        """Wait for the end."""

    def finish(self, finished: Finished) -> None:
        """Encode the frames; remove them when they were only made for this."""
        for picture, video in enumerate(self.videos):
            suffix = "" if len(self.videos) == 1 else f"-{picture}"
            write_video(video, sorted(self.frames.glob(f"{'[0-9]' * 6}{suffix}.png")))
        if not self.keep_frames:
            with writing(self.frames):
                shutil.rmtree(self.frames)

    def stop(self, last: Step | None) -> None:
        """Leave the frames for the run that goes on."""


def _name(number: int, picture: int, count: int) -> str:
    return f"{number:06d}.png" if count == 1 else f"{number:06d}-{picture}.png"
