"""Lungs alone, without a classifier: masks, pictures with the outline, and the lungs' area as a table.

    python examples/segment_lungs.py radiographs/ --out lungs

`trusted` in the table says whether a mask looks like lungs at all; look at the picture of each that does not.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from enhancement import read_radiograph
from enhancement.command_line import run
from enhancement.errors import InputError
from enhancement.files import find_image_tree, whole_file
from segmentation import LungSegmenter
from segmentation.overlay import draw_outline


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("radiographs", nargs="+", help="files, folders or glob patterns")
    parser.add_argument("--weights", default="lung-unet", help="a released name or a weights file")
    parser.add_argument("--convention", help="lung_field (without the heart) or lung_incl_retrocardiac (behind it too)")
    parser.add_argument("--out", type=Path, default=Path("lungs"), help="folder for masks/, outlines/ and lungs.csv")
    arguments = parser.parse_args(argv)

    found = find_image_tree(arguments.radiographs)
    first: dict[Path, Path] = {}
    for path, relative in found:
        if first.setdefault(relative, path) != path:
            raise InputError(f"{path} and {first[relative]} would share one mask; segment their folders apart")
    segmenter = LungSegmenter(arguments.weights, convention=arguments.convention)
    unreadable = 0
    with whole_file(arguments.out / "lungs.csv") as partial, _table(partial) as file:
        writer = csv.writer(file)
        writer.writerow(["file", "lung_pixels", "lung_fraction", "trusted", "reasons", "error"])
        results = segmenter.stream([path for path, _ in found], progress=True)
        for (path, relative), lungs in zip(found, results, strict=True):
            if lungs.error is not None:
                unreadable += 1
                writer.writerow([path, "", "", "", "", lungs.error])
                continue
            # bool [H, W], as large as the radiograph
            mask = lungs.mask
            name = relative.with_name(f"{relative.name}.png")
            save(arguments.out / "masks" / name, mask * np.uint8(255))
            save(arguments.out / "outlines" / name, draw_outline(read_radiograph(path), mask))
            verdict = lungs.verdict
            reasons = "; ".join(verdict.reasons)
            writer.writerow([path, int(mask.sum()), f"{mask.mean():.4f}", verdict.trusted, reasons, ""])
    print(f"{arguments.out / 'lungs.csv'}: {len(found)} radiographs, {unreadable} could not be read")
    return 1 if unreadable else 0


def _table(path: Path):
    # a file's name may hold bytes that are no UTF-8
    return open(path, "w", newline="", encoding="utf-8", errors="backslashreplace")


def save(path: Path, image: np.ndarray) -> None:
    """Write uint8 [H, W] or RGB [H, W, 3] as PNG."""
    from PIL import Image

    with whole_file(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")


if __name__ == "__main__":
    sys.exit(run(main, prog="segment_lungs.py"))
