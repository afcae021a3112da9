"""What a person sees while a run goes on: a bar with a preview on a terminal, a line now and then elsewhere."""

import time

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import TextColumn
from torch import Tensor

from vqclip.cli import bars
from vqclip.cli.console import Console
from vqclip.cli.graphics import show_picture
from vqclip.common.images import to_image
from vqclip.optimisation.step import Finished, Sink, Step
from vqclip.outputs.preview import Preview

DRAWING = "drawing"
PREVIEW_COLUMNS = 48
REFRESHES_A_SECOND = 4
SECONDS_BETWEEN_LINES = 10.0


def progress_sink(console: Console, start: int, total: int, preview: bool) -> Sink:
    """Choose the kind of progress that fits where stderr goes; `start` steps are done already."""
    return Bar(console, start, total, preview) if console.interactive else Lines(console, start)


class Bar:
    """A bar with loss, speed and time left, under a picture of the first latent if `preview`."""

    def __init__(self, console: Console, start: int, total: int, preview: bool) -> None:
        self.preview = preview and console.draws
        self.console = console
        loss = bars.Part(TextColumn("loss {task.fields[loss]}"), 11, least=60)
        speed = bars.Part(TextColumn("{task.fields[speed]}"), 13, least=72)
        self.progress = bars.bar(console, len(DRAWING), [bars.counted(), loss, speed, bars.time_left()])
        self.task = self.progress.add_task(DRAWING, total=total, completed=start, loss="–", speed="")
        self.rate = Rate(start)
        self.shown = 0.0
        self.live = Live(
            self._view(None),
            console=console.screen,
            refresh_per_second=REFRESHES_A_SECOND,
            redirect_stdout=console.shared,
        )
        self.live.start()

    def step(self, step: Step) -> None:
        """Move the bar, and show the picture a few times a second."""
        now = time.monotonic()
        if now - self.shown < 1 / REFRESHES_A_SECOND and step.number < step.total:
            return
        self.shown = now
        self.progress.update(
            self.task, completed=step.number, loss=f"{_loss(step):.4f}", speed=self.rate.text(step.number)
        )
        self.live.update(self._view(step.images[0]))

    def finish(self, finished: Finished) -> None:
        """Leave the final picture on the screen, as sharp as it can be shown."""
        self.live.update(self._view(None))
        self.live.stop()
        if self.preview:
            show_picture(self.console, to_image(finished.images[0]), PREVIEW_COLUMNS)

    def stop(self, last: Step | None) -> None:
        """Leave the screen as it is."""
        self.live.stop()

    def _view(self, pixels: Tensor | None) -> RenderableType:
        if pixels is None or not self.preview:
            return self.progress
        return Group(Preview(to_image(pixels), PREVIEW_COLUMNS), self.progress)


class Lines:
    """One line every ten seconds and one at the end, for logs."""

    def __init__(self, console: Console, start: int) -> None:
        self.console = console
        self.rate = Rate(start)
        self.shown = time.monotonic()

    def step(self, step: Step) -> None:
        """Write a line when it is time."""
        if time.monotonic() - self.shown >= SECONDS_BETWEEN_LINES:
            self.shown = time.monotonic()
            speed = self.rate.text(step.number)
            self.console.say(f"step {step.number}/{step.total}, loss {_loss(step):.4f}, {speed}")

    def finish(self, finished: Finished) -> None:
        """Write the last line."""
        if finished.step:
            self.console.say(f"{finished.step} steps in {finished.seconds:.1f} s")

    def stop(self, last: Step | None) -> None:
        """Write nothing: the command says why it stops."""


class Rate:
    """Steps a second in this process."""

    def __init__(self, start: int) -> None:
        self.first = start
        self.began = time.monotonic()

    def text(self, number: int) -> str:
        """Write the speed in the unit that reads well."""
        rate = (number - self.first) / max(time.monotonic() - self.began, 1e-9)
        return f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / max(rate, 1e-9):.1f} s/step"


def _loss(step: Step) -> float:
    """The mean over the pictures of the sum of all terms."""
    return float(sum(values.mean() for values in step.losses.values()))
