"""Enhance radiographs from the command line: ``python -m enhancement beasf IN OUT --gamma 1.5``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import enhancement
from enhancement import command_line
from enhancement.errors import InputError, printable
from enhancement.parallel import cores

_EPILOG = """IN is a file, a folder (searched all the way down, its tree kept) or a glob pattern in quotes. Results are
PNG files, unless OUT names one file with another ending. Existing files are left as they are unless --overwrite is
given. Exit code: 0 all done, 1 some files were not (listed at the end), 2 nothing could be started."""


@command_line.command("python -m enhancement")
def main(argv: list[str], prog: str) -> int:
    """Enhance files: 0 all done, 1 some were not, 2 nothing could be started."""
    arguments = _parser(prog).parse_args(argv)
    with warnings.catch_warnings():
        # A damaged file has its line in the list at the end; the readers' own words would tear the progress bar.
        warnings.filterwarnings("ignore", module="PIL|pydicom")
        try:
            return _run(arguments, prog)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped; every file written so far is whole") from None


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = command_line.Parser(prog=prog, description="Enhance chest radiographs.", epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, make: Callable[[argparse.Namespace], Any]):
        added = commands.add_parser(name, help=summary, description=summary, epilog=_EPILOG)
        added.add_argument("inputs", nargs="+", metavar="IN", help="file, folder or glob pattern")
        added.add_argument("out", metavar="OUT", help="folder; for one file also a file name")
        added.set_defaults(make=make)
        return added.add_argument

    # Each `make` goes from the arguments to the function that enhances one image. Names of the package load on first
    # use, so that --help needs neither NumPy nor OpenCV.
    text = "bi-histogram equalisation with adaptive sigmoid functions"
    beasf = command("beasf", text, lambda a: lambda image: enhancement.beasf(image, a.gamma, a.histogram))
    text = "contrast-limited adaptive histogram equalisation"
    clahe = command("clahe", text, lambda a: lambda image: enhancement.clahe(image, a.clip_limit, a.tile_grid))
    text = "conceal letters, dates and markers that are burned in"
    command("conceal", text, lambda a: enhancement.conceal_text)
    command("equalize", "histogram equalisation", lambda a: enhancement.equalize)
    text = "local equalisation by a rank filter"
    add = command("adaptive", text, lambda a: lambda image: enhancement.adaptive_equalize(image, a.radius))
    add("--radius", type=int, default=40, help="radius of the disk in pixels")
    add = command("blur", "Gaussian blur", lambda a: lambda image: enhancement.gaussian_blur(image, a.kernel))
    add("--kernel", type=int, default=5, help="side of the kernel, odd")
    add = command("match", "match the histogram to that of a template", _match)
    add("--template", required=True, metavar="FILE", help="radiograph that brings the histogram")
    stack = command("stack", "three enhancements as the red, green and blue of one file", _stack)
    names = "one or three of clahe, beasf, raw, equalize, adaptive_equalize, blur, equalize_blur"
    stack("--channels", default="clahe,beasf,raw", metavar="A,B,C", help=names)
    for add in (beasf, stack):
        add("--gamma", type=float, default=1.5, help="slope of BEASF's sigmoids")
        histogram = "BEASF counts grey levels (the paper), or bins over the image's range (the published code)"
        add("--histogram", choices=("levels", "range"), default="levels", help=histogram)
    for add in (clahe, stack):
        add("--clip-limit", type=float, default=2.0, help="contrast limit of CLAHE")
        add("--tile-grid", type=int, nargs=2, default=(8, 8), metavar=("COLUMNS", "ROWS"), help="tiles of CLAHE")
    window = (
        "range of pixel values shown, for files deeper than 8 bits; written --window=LOW,HIGH where LOW is negative; N "
        "(from 1) or named:HARDER takes that one of a DICOM file's own look-up tables and windows (default: DICOM's "
        "first, else robust)"
    )
    # Last, so that each command's help begins with its own flags.
    for added in commands.choices.values():
        add = added.add_argument
        add("--window", type=_window, metavar="robust|full|LOW,HIGH|N|named:TEXT", help=window)
        add("--max-pixels", type=int, default=100_000_000, help="larger files are refused")
        add("--jobs", type=command_line.at_least(1), default=cores(), help="files at a time, by default one per core")
        add("--overwrite", action="store_true", help="replace files that exist")
        add("--compare", metavar="SHEET", help="also write a sheet: original, HE, AHE, CLAHE, BEASF, histograms")
        add("--compare-count", type=command_line.at_least(1), default=4, metavar="N", help="radiographs on the sheet")
        gammas = "BEASF's gammas on the sheet (default: 0.5,1,1.5,2 and --gamma)"
        add("--gammas", type=_numbers, metavar="G,G,...", help=gammas)
        command_line.add_progress(added)
    return parser


def _run(arguments: argparse.Namespace, prog: str) -> int:
    import numpy as np

    from enhancement import batch, sheet

    # All that can be refused is refused before the first file is written.
    jobs = batch.plan(arguments.inputs, arguments.out)
    if arguments.compare:
        sheet.check_sheet(arguments.compare, overwrite=arguments.overwrite)
    enhance = arguments.make(arguments)
    try:
        enhance(np.zeros((4, 4), np.uint8))
    except InputError as error:  # a setting out of range, by its name in Python
        name, colon, reason = str(error).partition(":")
        raise InputError(f"--{name.replace('_', '-')}{colon}{reason}" if name in arguments else str(error)) from error

    def read(path: Path):
        return enhancement.read_radiograph(path, window=arguments.window, max_pixels=arguments.max_pixels)

    options = {"workers": arguments.jobs, "overwrite": arguments.overwrite, "progress": arguments.progress}
    problems = batch.run(jobs, lambda path: enhance(read(path)), **options)
    print(f"{len(jobs) - len(problems)} of {len(jobs)} written to {printable(arguments.out)}")
    if arguments.compare:
        # Files that cannot be read do not count: the sheet shows as many radiographs as were asked for.
        images: list[np.ndarray] = []
        titles = []
        for job in jobs:
            if len(images) == arguments.compare_count:
                break
            with suppress(InputError):  # already among the problems
                images.append(read(job.source))
                titles.append(job.source.name)
        if images:
            # Only some commands have these flags; the sheet has defaults for the others.
            names = ("histogram", "clip_limit", "tile_grid", "radius")
            settings = {key: getattr(arguments, key) for key in names if key in arguments}
            gammas = arguments.gammas or sorted({*sheet.GAMMAS, getattr(arguments, "gamma", 1.5)})
            figure = sheet.draw_sheet(images, titles, gammas=gammas, **settings)
            sheet.save_sheet(figure, arguments.compare, overwrite=arguments.overwrite)
            print(f"{printable(arguments.compare)}: {len(images)} of {len(jobs)} radiographs drawn")
        else:
            problems.append(f"{arguments.compare}: no radiograph to draw")
    if problems:
        print(f"{prog}: {len(problems)} not done:", file=sys.stderr)
        print("\n".join(f"  {problem}" for problem in problems), file=sys.stderr)
    return 1 if problems else 0


def _match(arguments: argparse.Namespace):
    template = enhancement.read_radiograph(arguments.template, window=arguments.window, max_pixels=arguments.max_pixels)
    return lambda image: enhancement.match_histogram(image, template)


def _stack(arguments: argparse.Namespace):
    # A PNG has one plane or three.
    channels = [name.strip() for name in arguments.channels.split(",")]
    if len(channels) not in (1, 3):
        raise InputError(f"--channels: {len(channels)} names given, 1 or 3 expected in an image file")
    return lambda image: enhancement.stack(
        image,
        channels,
        clahe_clip_limit=arguments.clip_limit,
        clahe_tile_grid=arguments.tile_grid,
        beasf_gamma=arguments.gamma,
        beasf_histogram=arguments.histogram,
    )


def _numbers(text: str) -> list[float]:
    # float() also takes "nan" and "inf", which no comparison sheet can use: the range is checked below.
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} given, numbers above 0 with commas between expected")
    return numbers


def _window(text: str):
    from enhancement.windowing import check_window  # with NumPy, which --help does without

    try:
        if text.isascii() and text.isdigit():
            return check_window(int(text))
        return check_window(tuple(map(float, text.split(","))) if "," in text and ":" not in text else text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} given; robust, full, LOW,HIGH with LOW < HIGH, a number from 1 or named:TEXT expected"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
