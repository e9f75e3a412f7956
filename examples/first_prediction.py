"""Load a trained model, predict one radiograph, draw its Grad-CAM on it.

    python examples/first_prediction.py chest.png
    python examples/first_prediction.py                  # on a phantom: a computed torso, no patient

Research only: a label is not a diagnosis.
"""

import argparse
import sys
from pathlib import Path

import covidcxnet
from enhancement.command_line import run


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("radiograph", nargs="?", help="PNG, JPEG, TIFF, WebP or DICOM; a phantom if left out")
    parser.add_argument("--weights", default="covid-cxnet-lite", help="a released name, a weights file or a run folder")
    parser.add_argument("--out", type=Path, default=Path("first-prediction.png"), help="picture to write")
    arguments = parser.parse_args(argv)
    if arguments.radiograph and Path(arguments.radiograph).is_dir():
        sys.exit(f"{arguments.radiograph}: a folder; give one radiograph, or use covidcxnet explain")

    # Architecture, labels and input settings are in the file: nothing else can be set wrongly.
    classifier = covidcxnet.load_model(arguments.weights)
    radiograph = arguments.radiograph
    if radiograph is None:
        from covidcxnet.datasets.phantom import phantom

        radiograph = phantom("covid19", seed=1, size=512).image  # uint8 [H, W] will do as well as a file

    # The prediction comes with the explanation; classifier.predict(radiograph) gives it alone.
    (explanation,) = classifier.explain(radiograph)
    if explanation.error:
        sys.exit(f"{radiograph}: {explanation.error}")
    for label, probability in explanation.prediction.probabilities.items():
        print(f"{label:<12} {probability:.3f}")
    lungs = explanation.prediction.lungs
    if lungs is not None and not lungs.trusted:
        print(f"lungs not found reliably: {'; '.join(lungs.reasons)}")
    print(f"Grad-CAM for {explanation.target}: {explanation.save_panel(arguments.out)}")


if __name__ == "__main__":
    sys.exit(run(main, prog="first_prediction.py"))
