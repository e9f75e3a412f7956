"""The command `covidcxnet explore`: what a data set looks like, as one HTML page and PNG files."""

from __future__ import annotations

from covidcxnet.cli._common import EXIT_CODES, RESEARCH_ONLY, add_data, add_work, open_data
from enhancement.command_line import Parser, command
from enhancement.files import check_output

SUMMARY = f"""Look at a data set before training on it: images by class, source and split, findings that occur together,
samples, mean and standard deviation image of each class, differences of means, grey levels, sizes; and warnings about
likely shortcuts. Writes explore.html (one file), its pictures as PNG and explore.json. {RESEARCH_ONLY}"""


@command("covidcxnet explore")
def main(argv: list[str], prog: str) -> int:
    """Explore; the last line printed is the path of the page."""
    parser = Parser(prog=prog, description=SUMMARY, epilog=EXIT_CODES)
    add_data(parser, required=True)
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="folder of the page and the pictures")
    add("--split", metavar="FILE", help="CSV of path and split, or a run folder: also count by split")
    add("--size", type=int, default=128, help="side of mean images in pixels")
    add("--samples", type=int, default=16, metavar="N", help="samples of each class")
    add_work(parser, batch_size=False, seed="the choice of samples")
    arguments = parser.parse_args(argv)
    # Before the images are read, which may take an hour.
    check_output(arguments.out, folder=True)
    dataset = open_data(arguments)

    from covidcxnet.experiments.explore import explore, read_explored_split
    from covidcxnet.experiments.explore_page import save

    split = read_explored_split(arguments.split, dataset) if arguments.split else None
    names = ("size", "samples", "seed", "jobs", "progress")
    survey = explore(dataset, split=split, **{name: getattr(arguments, name) for name in names})
    print(f"{survey.name}: {survey.images} images read of {survey.listed} listed, {len(survey.unreadable)} unreadable")
    print("\n".join(f"warning: {warning}" for warning in survey.warnings) or "no warnings")
    page = save(survey, arguments.out)
    if len(survey.unreadable):
        print(f"{page.parent / 'unreadable.csv'}: files that could not be read")
    print(page)
    return 1 if len(survey.unreadable) else 0
