"""Embeddings of crops of real photographs: a catalogue as large as wanted whose vectors no generator made up.

A crop holds 8 to 70 % of a photograph's area and is flipped or not, at random; it goes through the network that the
service uses for new collections. Rows are kept in the git-ignored `benchmarks/cache`, and a run that was cut short goes
on where it was. Neither a photograph nor anything cut from one is written anywhere.

    python -m benchmarks.crops --count 103000      half an hour on two cores
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.vectors import CACHE, SPLITS
from models import artefact
from models.pictures import image
from models.runtimes.onnxruntime import OnnxEmbedder
from models.runtimes.processor import resolve_precision
from tests.harness import photographs

LEAST_AREA, MOST_AREA = 0.08, 0.70
MOST_STRETCH = 4 / 3  # a crop's sides have between 1 ⁄ this and this of the photograph's aspect
BLOCK = 256


def crop_of(random: np.random.Generator, photo: Image.Image) -> Image.Image:
    """A random part of a picture, perhaps flipped."""
    area = random.uniform(LEAST_AREA, MOST_AREA)
    stretch = np.exp(random.uniform(-np.log(MOST_STRETCH), np.log(MOST_STRETCH)))
    width, height = min(1.0, np.sqrt(area * stretch)), min(1.0, np.sqrt(area / stretch))
    left, top = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    box = (left * photo.width, top * photo.height, (left + width) * photo.width, (top + height) * photo.height)
    part = photo.crop(tuple(round(side) for side in box))
    return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part


def cached(count: int, model_dir: Path, *, most: float = float("inf")) -> npt.NDArray[np.float16]:
    """float16 (count, dim), unit rows in a random but fixed order; embeds those that are not in the cache yet.

    most: gives up (SystemExit) where more than so many would have to be embedded first.
    """
    found = artefact.find(model_dir, precision=resolve_precision("auto", "cpu"))
    listed = [photo for split in SPLITS for photo in photographs.split(*split)]
    path = CACHE / f"crops-{found.fingerprint}.f16"
    note = path.with_suffix(".json")
    belongs = json.dumps([found.fingerprint, found.dim, len(listed)])
    CACHE.mkdir(exist_ok=True)
    if not note.exists() or note.read_text() != belongs:
        path.unlink(missing_ok=True)
        note.write_text(belongs)
    done = path.stat().st_size // (2 * found.dim) // BLOCK * BLOCK if path.exists() else 0
    if count - done > most:
        raise SystemExit(f"{count - done} crops have to be embedded first: python -m benchmarks.crops --count {count}")
    if done < count:
        embedder = OnnxEmbedder(found, threads=1)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(done * 2 * found.dim)
            file.seek(0, 2)
            for start in range(done, count, BLOCK):
                random = np.random.default_rng([5, start])  # each block by itself, so that a run may go on
                file.write(_block(random, listed, embedder).tobytes())
                file.flush()
    return np.memmap(path, np.float16, "r", shape=(count, found.dim))


def _block(
    random: np.random.Generator, listed: Sequence[photographs.Photo], embedder: OnnxEmbedder
) -> npt.NDArray[np.float16]:
    rows = []
    for number in random.integers(0, len(listed), BLOCK):
        with Image.open(listed[number].path) as photo:
            part = crop_of(random, photo.convert("RGB"))
        target = io.BytesIO()
        part.save(target, "PNG", compress_level=0)
        rows.append(embedder.embed(image.decode(target.getvalue()).pixels[None])[0])
    return np.stack(rows).astype(np.float16)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=103_000)
    parser.add_argument("--model-dir", type=Path, default=photographs.ROOT / "data" / "models")
    chosen = parser.parse_args(arguments)
    rows = cached(chosen.count, chosen.model_dir)
    print(f"{len(rows):,} crops of {rows.shape[1]} dimensions")


if __name__ == "__main__":
    main()
