"""The command `covidcxnet explain`: draws the evidence of a prediction on the radiograph."""

from __future__ import annotations

from covidcxnet.cli.predict import METHODS, build_parser, run
from enhancement.command_line import command


@command("covidcxnet explain")
def main(argv: list[str], prog: str) -> int:
    """Explain predictions."""
    parser = build_parser(prog, "Draw where a classifier finds its evidence, with the outline of the lungs.")
    text = "cam needs a network of pooling and one dense layer; lime takes minutes a file"
    parser.add_argument("--method", dest="explain", choices=METHODS, default="gradcam", help=text)
    return run(parser.parse_args(argv))
