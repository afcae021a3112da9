"""Frames and videos: names, numbers and sizes, read back with other tools' readers."""

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import TinyModels
from PIL import Image
from test_pipeline import build, plan_of
from torch import Tensor

from vqclip.common.errors import OutputError, UsageError
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs import video as module
from vqclip.outputs.frames import Frames, Videos, frame_files
from vqclip.outputs.picture import save_picture
from vqclip.outputs.video import check_video, write_video
from vqclip.runs.session import frame_sinks

HOME = Path("frames")


def shade(value: float, count: int = 1, size: tuple[int, int] = (16, 24)) -> Tensor:
    return torch.full((count, 3, *size), value)


def step(number: int, count: int = 1) -> Step:
    return Step(number, 9, torch.empty(0), {}, render=lambda: shade(number / 10, count), state=dict)


def finished(number: int, count: int = 1) -> Finished:
    return Finished(number, shade(number / 10, count), torch.empty(0), [], 0.0)


def names(folder: Path = HOME) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def level(path: Path) -> int:
    with Image.open(path) as image:
        return image.getpixel((0, 0))[0]


def shades(count: int, size: tuple[int, int] = (16, 24)) -> list[Path]:
    paths = [Path(f"shades/{number:06d}.png") for number in range(count)]
    for number, path in enumerate(paths):
        save_picture(path, shade(number / count, 1, size)[0])
    return paths


def test_every_nth_step_and_the_last_are_kept() -> None:
    frames = Frames(HOME, range(3, 10, 3))
    for number in range(1, 9):
        frames.step(step(number))
    frames.finish(finished(8))
    assert names() == ["000003.png", "000006.png", "000008.png"]
    assert [level(HOME / name) for name in names()] == [76, 153, 204]  # 255 * step / 10, the picture after it


def test_the_last_frame_is_not_written_twice() -> None:
    frames = Frames(HOME, range(2, 10, 2))
    frames.step(step(2))
    frames.finish(Finished(2, shade(1), torch.empty(0), [], 0.0))
    assert names() == ["000002.png"]
    assert level(HOME / "000002.png") == 51


def test_several_pictures_have_a_frame_each() -> None:
    frames = Frames(HOME, range(2, 10, 2))
    frames.step(step(2, 2))
    frames.finish(finished(2, 2))
    assert names() == ["000002-0.png", "000002-1.png"]


def test_no_picture_is_rendered_for_nothing() -> None:
    def render() -> Tensor:
        raise AssertionError("rendered")

    Frames(HOME, range(2, 10, 2)).step(Step(1, 9, torch.empty(0), {}, render=render, state=dict))
    assert not HOME.exists()


def test_a_run_of_no_steps_has_one_frame() -> None:
    Frames(HOME, range(5, 10, 5)).finish(finished(0))
    assert names() == ["000000.png"]


def test_videos_take_the_frames_of_their_own_picture() -> None:
    frames = Frames(HOME, range(1, 10, 1))
    for number in (1, 2, 3):
        frames.step(step(number, 2))
    save_picture(HOME / "cat.png", shade(0)[0])  # a user's own
    Videos(HOME, [Path("a-0.gif"), Path("a-1.gif")], keep_frames=True).finish(finished(3, 2))
    for name in ("a-0.gif", "a-1.gif"):
        with Image.open(name) as video:
            assert video.n_frames == 3
    assert len(names()) == 7


def test_frames_made_for_the_video_go_with_it() -> None:
    Frames(HOME, range(1, 10, 1)).step(step(1))
    videos = Videos(HOME, [Path("a.webp")], keep_frames=False)
    videos.stop(step(1))
    assert names() == ["000001.png"]  # an interrupted run goes on with them
    videos.finish(finished(1))
    assert Path("a.webp").is_file()
    assert not HOME.exists()


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations(suffix: str) -> None:
    shown = []
    write_video(Path(f"a.{suffix}"), shades(5))
    with Image.open(f"a.{suffix}") as video:
        assert (video.n_frames, video.size) == (5, (24, 16))
        assert video.info["loop"] == 0  # forever
        for number in range(5):
            video.seek(number)
            video.load()
            assert abs(np.asarray(video.convert("RGB")).astype(int) - 255 * number / 5).max() <= 4
            shown.append(video.info["duration"])
    # 15 a second, and the last for a second; GIF counts in hundredths
    assert shown == ([70, 60, 70, 70, 1000] if suffix == "gif" else [67, 66, 67, 67, 1000])


@pytest.mark.parametrize(("size", "expected"), [((16, 24), (24, 16)), ((17, 33), (32, 16))])
def test_mp4(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """H.264 with half the colour samples needs even sides."""
    write_video(Path("a.mp4"), shades(5, size))
    with av.open("a.mp4") as container:
        stream = container.streams.video[0]
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 15)
    assert [(frame.shape[1], frame.shape[0]) for frame in decoded] == [expected] * (4 + 15)  # the last for a second
    for number, frame in enumerate(decoded):
        assert abs(frame.astype(int) - 255 * min(number, 4) / 5).max() <= 4


def test_the_rate_is_the_one_asked_for() -> None:
    for suffix in ("mp4", "gif"):
        write_video(Path(f"a.{suffix}"), shades(5), rate=5)
    with av.open("a.mp4") as container:
        assert container.streams.video[0].average_rate == 5
        assert sum(1 for _ in container.decode(video=0)) == 4 + 5
    with Image.open("a.gif") as video:
        assert video.info["duration"] == 200


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_one_frame_is_a_video_too(suffix: str) -> None:
    write_video(Path(f"a.{suffix}"), shades(1))
    assert Path(f"a.{suffix}").stat().st_size > 0


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_a_damaged_frame_leaves_the_old_video(suffix: str) -> None:
    frames = shades(3)
    frames[1].write_bytes(b"")
    path = Path(f"a.{suffix}")
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=f"Cannot write 'a.{suffix}'"):
        write_video(path, frames)
    assert path.read_bytes() == b"old"
    assert names(Path()) == [path.name, "shades"]


@pytest.mark.parametrize(("steps", "frames"), [(1, 1), (150, 150), (151, 76), (299, 150), (300, 150), (301, 101)])
def test_a_video_whose_interval_nobody_chose_has_at_most_150_frames(tiny: TinyModels, steps: int, frames: int) -> None:
    parts = build(plan_of(tiny, "output.video=gif", f"optimise.steps={steps}"))
    (sink,) = frame_sinks(parts, HOME, HOME)
    assert isinstance(sink, Frames)
    assert len({*(number for number in range(1, steps + 1) if number in sink.numbers), steps}) == frames


def test_other_formats_are_refused() -> None:
    with pytest.raises(UsageError, match="Unknown video format 'avi'"):
        write_video(Path("a.avi"), shades(1))


def test_mp4_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in ("mp4", "gif", "webp"):
        check_video(suffix)  # the test's environment has everything
    real = importlib.util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "av" else real(name))
    with pytest.raises(UsageError, match=r"pip install 'vqclip\[video\]'"):
        check_video("mp4")
    check_video("gif")
    check_video("webp")


def test_frames_are_in_the_order_of_their_steps_beyond_a_million(tmp_path: Path) -> None:
    numbers = [999_998, 999_999, 1_000_000, 1_000_001]
    for number in reversed(numbers):
        for name in (f"{number:06d}.png", f"{number:06d}-1.png"):
            (tmp_path / name).touch()
    (tmp_path / "123456-holiday.png").touch()
    assert [path.name for path in frame_files(tmp_path, 0)] == [f"{number:06d}.png" for number in numbers]
    assert [path.name for path in frame_files(tmp_path, 1)] == [f"{number:06d}-1.png" for number in numbers]
    assert len(frame_files(tmp_path)) == 8
