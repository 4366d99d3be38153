"""A realistic synthetic clip whose true masks are known exactly.

A camera pans, zooms, tilts and rolls over a brick path with gravel and lawn beside it. An instant
photograph, a cut-out astronaut and a cup of coffee slide over the ground, turn, grow, shrink, bend
and pass over each other. Light changes, a cloud passes, the shutter blurs, the sensor is noisy.

    python examples/synthetic_clip.py OUT_DIR                  clip.mp4, first.png, truth/
    python examples/synthetic_clip.py OUT_DIR --davis NAME     JPEG frames and masks as in DAVIS
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from ground import ground_picture
from motion import ACTORS, CAMERA, Wave, varied
from PIL import Image
from sprites import Bend, Sprite, blend_colour, blend_shadow

from propagate.labels.mask_files import write_mask
from propagate.output.video_writer import VideoWriter
from propagate.types import Size

DEFAULT_SIZE = Size(480, 854)

# In frames.
_SHUTTER = 0.5
# Four samples per pixel, spread over the open shutter and over the pixel (a rotated grid) at once.
_JITTER = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
# Variance of the noise at brightness v is _READ_NOISE**2 + _SHOT_NOISE * v, in 8-bit steps.
_READ_NOISE, _SHOT_NOISE = 1.5, 0.05
# Every frame takes its noise from one picture that is this much larger, in pixels.
_SPARE = 64


class SyntheticClip:
    """Frames and true masks, made as they are asked for and the same every time.

    Iterating gives (rgb uint8 [h, w, 3], ids uint8 [h, w]) per frame. An id is that of the object
    (0: the ground) that one sees in the largest part of the pixel while the shutter is open.

    Args:
        frames: how many; motion per frame does not depend on it.
        size: height and width in pixels.
        seed: of the motion's variation, the ground's blotches and the noise.
    """

    object_ids = (1, 2, 3)
    fps = 24.0

    def __init__(
        self, frames: int = 60, size: tuple[int, int] = DEFAULT_SIZE, seed: int = 0
    ) -> None:
        self.frames, self.size, self._seed = frames, Size(*size), seed
        rng = np.random.default_rng(seed)
        self._camera = varied(CAMERA, rng)
        self._actors = tuple(varied(actor, rng) for actor in ACTORS)
        self._clouds = cv2.GaussianBlur(rng.standard_normal((64, 64), np.float32), (0, 0), 4) * 8
        self._ground, self._ground_scale = ground_picture(self.size.height, rng)
        height, width = self.size
        self._noise = rng.standard_normal((height + _SPARE, width + _SPARE, 3), np.float32)
        self._sprites = tuple(
            Sprite.load(actor.asset, height=actor.height * height) for actor in self._actors
        )

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (self.frame(index) for index in range(self.frames))

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Picture and true mask of one frame."""
        light = np.zeros((*self.size, 3), np.float32)
        cover = np.zeros((*self.size, 3), np.float32)
        for step, jitter in enumerate(_JITTER):
            t = index + _SHUTTER * step / len(_JITTER)
            for total, part in zip((light, cover), self._sample(t, jitter), strict=True):
                cv2.accumulate(part, total)
        light /= len(_JITTER)
        cover /= 255 * len(_JITTER)
        return self._noisy(light * self._illumination(index), index), _majority(cover)

    def _sample(self, t: float, jitter: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """One ray per pixel: the picture, and the object each pixel shows, uint8 [h, w, 3]."""
        camera = self._camera.homography(t, self.size)
        camera = np.array([[1, 0, jitter[0]], [0, 1, jitter[1]], [0, 0, 1]]) @ camera
        canvas = cv2.warpPerspective(
            self._ground,
            _centred(camera @ self._ground_scale),
            self.size[::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        cover = np.zeros_like(canvas)
        for number, (actor, sprite) in enumerate(zip(self._actors, self._sprites, strict=True)):
            bend = Bend(actor.bend, t)
            blend_shadow(canvas, sprite.shadow(camera @ actor.placement(t, actor.thickness), bend))
            blend_colour(canvas, cover, sprite.colour(camera @ actor.placement(t), bend), number)
        return canvas, cover

    def _illumination(self, t: float) -> np.ndarray:
        """Gain [h, w, 3]: exposure and colour drift, and the shadow of a passing cloud."""
        span = 24 / self.size.height
        drift = np.array([[span, 0, 12 + 0.10 * t], [0, span, 12 + 0.04 * t]])
        clouds = cv2.warpAffine(
            np.tanh(self._clouds),
            drift,
            self.size[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        exposure, warmth = Wave(1.0, 0.14, 83, 0.1).at(t), Wave(0.0, 0.04, 140).at(t)
        gain = exposure * (1 + 0.1 * clouds)
        return np.asarray(cv2.merge([gain * (1 + warmth), gain, gain * (1 - warmth)]))

    def _noisy(self, light: np.ndarray, index: int) -> np.ndarray:
        """Add read and shot noise (a random part of one large noise picture); uint8 [h, w, 3]."""
        top, left = np.random.default_rng((self._seed, index)).integers(0, _SPARE, 2)
        noise = self._noise[top : top + self.size.height, left : left + self.size.width]
        noise = cv2.multiply(noise, cv2.sqrt(_READ_NOISE**2 + _SHOT_NOISE * light))
        return np.asarray(cv2.add(light, noise, dtype=cv2.CV_8U))


def _majority(cover: np.ndarray) -> np.ndarray:
    """Number from 1 of the largest of three shares [h, w, 3], 0 where their rest is larger."""
    shares = cv2.split(cover)
    largest = 1 - sum(shares)
    ids = np.zeros(largest.shape, np.uint8)
    for number, share in enumerate(shares, start=1):
        wins = share > largest
        np.copyto(largest, share, where=wins)
        np.copyto(ids, np.uint8(number), where=wins)
    return ids


def _centred(transform: np.ndarray) -> np.ndarray:
    """The same map between pixel indices, which name pixel centres, for OpenCV."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.asarray(np.linalg.inv(half) @ transform @ half)


def write_clip(clip: SyntheticClip, folder: Path) -> None:
    """Write `clip.mp4`, the mask of its first frame `first.png`, and all true masks in `truth/`."""
    truth = _fresh(folder / "truth", ".png")
    with VideoWriter(folder / "clip.mp4", fps=clip.fps, size=clip.size) as video:
        for index, (rgb, ids) in enumerate(clip):
            video.write(rgb)
            write_mask(truth / f"{index:05d}.png", ids)
            if index == 0:
                write_mask(folder / "first.png", ids)


def write_davis(clip: SyntheticClip, root: Path, name: str) -> None:
    """Write JPEG frames and true masks as the sequence `name` of a DAVIS 2017 tree."""
    images = _fresh(root / "JPEGImages" / "480p" / name, ".jpg")
    masks = _fresh(root / "Annotations" / "480p" / name, ".png")
    for index, (rgb, ids) in enumerate(clip):
        Image.fromarray(rgb).save(images / f"{index:05d}.jpg", quality=95)
        write_mask(masks / f"{index:05d}.png", ids)
    listing = root / "ImageSets" / "2017" / "val.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    names = {name, *(listing.read_text().split() if listing.exists() else ())}
    listing.write_text("\n".join(sorted(names)) + "\n")


def _fresh(folder: Path, suffix: str) -> Path:
    """Make a folder for numbered files, without those of an earlier clip."""
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("[0-9]" * 5 + suffix):
        earlier.unlink()
    return folder


def add_clip_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `clip_from` reads."""
    add = parser.add_argument
    add("--frames-count", type=int, default=60, metavar="N", help="frames [%(default)s]")
    add("--size", type=_size, default=DEFAULT_SIZE, metavar="WxH", help="pixels [%(default)s]")
    add("--seed", type=int, default=0, help="another clip of the same kind [%(default)s]")


def _size(text: str) -> Size:
    width, height = map(int, text.split("x"))
    return Size(height, width)


def clip_from(options: argparse.Namespace) -> SyntheticClip:
    """The clip that the options describe."""
    return SyntheticClip(options.frames_count, options.size, options.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a synthetic clip with true masks.")
    parser.add_argument("output", type=Path, metavar="OUT_DIR")
    parser.add_argument("--davis", metavar="NAME", help="write a sequence of a DAVIS 2017 tree")
    add_clip_options(parser)
    options = parser.parse_args()
    clip = clip_from(options)
    if options.davis:
        write_davis(clip, options.output, options.davis)
    else:
        write_clip(clip, options.output)


if __name__ == "__main__":
    main()
