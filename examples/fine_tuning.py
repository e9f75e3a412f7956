"""Fine-tune trained weights on images of your own: a folder per class, or a CSV with path, label and patient.

    python examples/fine_tuning.py --data my-images.csv
    python examples/fine_tuning.py --data my-folder --split-by image    # no patient IDs: scores are inflated
    python examples/fine_tuning.py                                      # on phantoms: computed torsos, no patients

Images are prepared (cropped, enhanced, resized) by the settings in the weights file.
Labels other than the file's get a new output layer.
"""

import argparse
import sys

import covidcxnet
from covidcxnet.training import Recipe, train
from enhancement.command_line import run


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="phantom", help="folder or CSV; phantoms if left out")
    parser.add_argument("--weights", default="covid-cxnet-lite", help="a released name, a weights file or a run folder")
    parser.add_argument("--classes", default="", help="labels to use, separated by commas; all by default")
    parser.add_argument("--split-by", choices=("patient", "patient_where_known", "image"), default="patient")
    parser.add_argument("--trainable", default="0.25", help="all, head, or the last fraction of the layers")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--phantoms", type=int, default=120, help="number of phantoms")
    parser.add_argument("--out", default="", help="run folder; a new one below runs/ if left out")
    arguments = parser.parse_args(argv)

    known = covidcxnet.load_model(arguments.weights)
    architecture = known.metadata["architecture"]
    recipe = Recipe(
        data=arguments.data,
        phantom_images=arguments.phantoms,
        classes=tuple(arguments.classes.split(",")) if arguments.classes else (),
        split_by=arguments.split_by,
        model=architecture["name"],
        # size and channels follow from the input settings
        options={key: value for key, value in architecture["options"].items() if key not in ("size", "channels")},
        init=arguments.weights,
        input=known.input,
        trainable=arguments.trainable,
        learning_rate=1e-4,  # a tenth of the rate for random weights, which keeps what the network has learned
        epochs=arguments.epochs,
        out=arguments.out,
    )
    done = train(recipe)
    best = done.log.loc[done.log[recipe.monitor].idxmax()]
    print(f"{recipe.monitor} {best[recipe.monitor]:.3f} after epoch {best['epoch']:.0f}: {done.best_weights}")
    print(f"evaluate it on its test images: python evaluate.py {done.path}")


if __name__ == "__main__":
    sys.exit(run(main, prog="fine_tuning.py"))
