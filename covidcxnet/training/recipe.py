"""Recipe: all settings of a training in one frozen dataclass. Every field carries its help and its range."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from covidcxnet.models import MODELS
from covidcxnet.models.finetuning import check_depth
from covidcxnet.models.registry import similar_models
from covidcxnet.settings import InputSettings
from enhancement.command_line import did_you_mean
from enhancement.errors import InputError
from enhancement.files import whole_file

TRAINING_IMAGES = "training"
"""Value of `match_to` that stands for the mean of the training images."""

NEW_SPLIT = "new"
"""Value of `split` that makes a split even where the data lie in the folders train, val and test."""

_DEFAULT_INPUT = InputSettings(size=128)

RETIRED = {"erase_shortcuts": 0, "augment.spectrum": 0}
"""Keys of earlier recipes, and the only value still accepted: their settings were removed (docs/experiments.md)."""


def _about(help: str, interval: str = "") -> dict[str, str]:
    """Metadata of a field: its help, and the interval of allowed numbers in which ``(0, 1]`` excludes 0."""
    return {"help": help, "interval": interval}


def _field(default: Any, help: str, interval: str = "") -> Any:
    return field(default=default, metadata=_about(help, interval))


@dataclass(frozen=True)
class AugmentSettings:
    """How training images are varied: drawn anew for every image in every epoch, uniform in each range.

    Raises
    ------
    InputError
        If a value is outside its range; the message names the key.
    """

    rotation: float = _field(10.0, "largest rotation in either direction, in degrees", "[0, 180]")
    flip_horizontal: bool = _field(False, "mirror every second image left to right")
    flip_vertical: bool = _field(False, "mirror every second image top to bottom")
    zoom: tuple[float, float] = _field(
        (0.9, 1.1), "smallest and largest size of the content, uniform in the logarithm", "[0.01, 100]"
    )
    shift: float = _field(0.05, "largest shift along either axis as a fraction of the side", "[0, 1]")
    fill: float = _field(0.0, "grey level of pixels from outside the image", "[0, 255]")
    brightness: tuple[float, float] = _field((0.8, 1.2), "smallest and largest factor on grey levels", "[0.01, 100]")
    contrast: tuple[float, float] = _field(
        (1.0, 1.0), "smallest and largest factor on the distance from the image's mean", "[0.01, 100]"
    )
    gamma: tuple[float, float] = _field(
        (1.0, 1.0), "smallest and largest exponent on grey levels scaled to 0..1", "[0.01, 100]"
    )
    blur: float = _field(0.0, "standard deviation in pixels of the strongest Gaussian blur; 0 for none", "[0, 50]")
    noise: float = _field(
        0.0, "standard deviation in grey levels of the strongest Gaussian noise; 0 for none", "[0, 255]"
    )
    sharpness: float = _field(
        1.0, "sharpness of every second image: below 1 smoother, 2 sharper, as in torchvision; 1 for none", "[0, 50]"
    )
    autocontrast: bool = _field(False, "stretch the grey levels of every second image over 0 to 255")
    jpeg: int = _field(0, "lowest quality of JPEG's block quantisation, uniform up to 100; 0 for none", "[0, 100]")
    erase: float = _field(0.0, "side of a square set to `fill`, as a fraction of the image's; 0 for none", "[0, 1]")

    def __post_init__(self):
        for name in ("zoom", "brightness", "contrast", "gamma"):
            low, high = pair = tuple(getattr(self, name))
            object.__setattr__(self, name, pair)
            _require(low <= high, f"augment.{name}", list(pair), "two numbers, the smaller first,")
        _check_fields(self, "augment.")

    @classmethod
    def none(cls) -> AugmentSettings:
        """Settings that leave every image as it is."""
        return cls(rotation=0, zoom=(1, 1), shift=0, brightness=(1, 1))

    @property
    def moves(self) -> bool:
        """Whether geometry changes, so that images must be resampled."""
        return bool(self.rotation or self.shift or self.flip_horizontal or self.flip_vertical or self.zoom != (1, 1))

    @property
    def tones(self) -> bool:
        """Whether grey levels change."""
        return any(pair != (1, 1) for pair in (self.brightness, self.contrast, self.gamma))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or YAML."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Recipe:
    """One training experiment. The defaults train a small CNN on the built-in phantom in a few minutes.

    Flag, YAML key and Python name are one; ``train.py --help`` shows every key with its help. In order: data and split
    (data to train_images), model (model, options, init), images (input, match_to, augment), steps (epochs to ema), loss
    and what is shown (teacher to sampling), choice of the epoch (monitor to lr_factor), and how and where it runs
    (precision to deterministic).

    Raises
    ------
    InputError
        If a value is outside its range or does not go with the model; the message names the key and what is allowed.
    """

    data: str = _field(
        "phantom",
        '"phantom" (images made by the program, no patients), NAME:FOLDER for a public set (`covidcxnet datasets '
        "list`), a folder with one sub-folder per class, or a CSV with path and label columns",
    )
    phantom_images: int = _field(900, "number of phantom images", "[1, inf)")
    root: str = _field("", "folder that the CSV's paths are relative to; the CSV's own folder when empty")
    verdicts: str = _field("", "table written by `covidcxnet datasets check`; rejected images are not used")
    where: dict[str, str | list[str]] = field(
        default_factory=dict,
        metadata=_about("rows to use, column to value or list of values, as in {source: [nih, armiro]}"),
    )
    classes: tuple[str, ...] = _field(
        (),
        "labels to use, in this order but normal always first; empty for all. With two, the model gives the "
        "probability of the second",
    )
    multilabel: bool = _field(
        False,
        "an image may have several findings, each present, absent or unknown: columns finding_NAME of 1, 0 and -1 or "
        "nothing, or a column labels with Effusion|Mass. `classes` are then findings; unknown ones are left out of "
        "loss and figures, and thresholds come from validation",
    )
    split: str = _field(
        "",
        "CSV with columns path and split (train, validation, test). Empty uses the folders train, val and test if "
        "the data has them, and makes a split otherwise. new always makes one, as do --holdout and --fractions on the "
        "command line",
    )
    split_by: Literal["patient", "patient_where_known", "image"] = _field(
        "patient",
        "what stays on one side of a split; patient_where_known treats each image without a patient ID as a patient",
    )
    fractions: tuple[float, float, float] = _field(
        (0.7, 0.15, 0.15), "shares of train, validation and test in a new split", "[0, 1)"
    )
    holdout: dict[str, str | list[str]] = field(
        default_factory=dict,
        metadata=_about(
            "rows that all go to the test set, written like `where`, for example a whole hospital. The test share of "
            "the other rows is added, so that the report shows both. With fractions that end in 0, the held-out rows "
            "are the whole test set",
        ),
    )
    train_images: int = _field(
        0,
        "training images at most, whole patients drawn with the seed, each class and source in its share; 0 for all. "
        "Swept, it gives a learning curve: --over train_images=300,600,1200",
        "[0, inf)",
    )
    model: str = _field(
        "small-cnn",
        "a model of the registry; `covidcxnet models list` shows them. Given as a flag, and without a recipe, it "
        "brings its published input",
    )
    options: dict[str, Any] = field(
        default_factory=dict,
        metadata=_about(
            "the model's own options, as in {dropout: 0.3, normalization: imagenet}; {head: pneumonia} is a head by "
            "name. {normalization: training} scales by mean and deviation of the training images, which the weights "
            "then hold",
        ),
    )
    init: str = _field(
        "random",
        "initial weights: random, imagenet, a released name (chexnet, covid-cxnet-chexnet, covid-cxnet), a file or a "
        "run folder",
    )
    input: InputSettings = field(
        default=_DEFAULT_INPUT,
        metadata=_about("how a radiograph becomes a stack; where only the model is given, its published input"),
    )
    match_to: str = _field(
        "",
        "radiograph whose grey levels fill `input.histogram`, so that all others are matched to it; training takes the "
        "mean of the training images, each source with the same weight (a file of that name is ./training)",
    )
    augment: AugmentSettings = field(
        default_factory=AugmentSettings, metadata=_about("how training images are augmented")
    )
    epochs: int = _field(16, "passes over the training set at most", "[1, inf)")
    batch_size: int = _field(8, "images in one step", "[1, inf)")
    optimizer: Literal["adam", "adamw", "sgd"] = _field("adam", "sgd has Nesterov momentum 0.9")
    learning_rate: float = _field(5e-4, "learning rate, before the schedule lowers it", "(0, 10]")
    weight_decay: float = _field(0.0, "decoupled weight decay of adamw, on kernels only", "[0, 1]")
    schedule: Literal["plateau", "constant", "cosine"] = _field(
        "plateau",
        "learning rate: lowered on a plateau of `monitor`, constant, or a cosine to `min_learning_rate` at the last "
        "step",
    )
    min_learning_rate: float = _field(
        0.0, "lowest learning rate of plateau and cosine; at most learning_rate", "[0, 10]"
    )
    warmup: float = _field(
        0.0, "epochs of warm-up before the cosine, from a hundredth of the learning rate", "[0, inf)"
    )
    ema: float = _field(
        0.0,
        "momentum of a moving average of the weights over the steps, for example 0.99. The average is validated and "
        "saved. 0 uses the weights themselves",
        "[0, 1)",
    )
    teacher: str = _field(
        "",
        "released name, weights file or run folder whose probabilities replace the labels of the training images in "
        "the loss (distillation); empty trains on the labels",
    )
    label_smoothing: float = _field(0.0, "share of each target spread over all classes", "[0, 1)")
    class_weights: Literal["balanced", "source", "source_rare", "none"] = _field(
        "balanced",
        "balanced gives each class the same weight in the loss, however few images it has; source balances the classes "
        "within each source, so that the source does not reveal the label, and weights a source by the square root of "
        "its number of images; source_rare also by the square root of how rare its rarest class is",
    )
    sampling: Literal["none", "oversample", "undersample", "undersample_once"] = _field(
        "none",
        "shows the classes of the training split equally often: small ones repeated, or as many of each as the "
        "smallest has, drawn anew in each epoch or once for all epochs. Class weights are then those of what is shown, "
        "1 for balanced",
    )
    monitor: Literal["val_auroc", "val_average_precision", "val_accuracy", "val_f1", "val_loss"] = _field(
        "val_auroc", "validation figure that picks the best weights"
    )
    patience: int = _field(6, "epochs without a better figure before training stops; 0 never stops early", "[0, inf)")
    lr_patience: int = _field(
        2, "epochs without a better figure before the learning rate falls on a plateau; 0 keeps it", "[0, inf)"
    )
    lr_factor: float = _field(0.5, "factor by which the learning rate falls on a plateau", "(0, 1)")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"] = _field(
        "float32",
        "number format of the network's arithmetic; float16 needs a GPU; auto is mixed_bfloat16 where the processor or "
        "a GPU computes in it, else float32",
    )
    trainable: str | float = _field(
        "all",
        "how deep the model is trained: all; head (see `cache_features`); the head and a last fraction of the "
        "backbone's layers, as in 0.25; or the head and layers whose names begin so, as in conv4,conv5. Batch "
        "norms that do not train keep to their moving averages",
    )
    frozen_norms: bool = _field(
        False,
        "keep all batch norms as they are in the initial weights while the layers around them train: for pretrained "
        "weights, whose features the statistics of small batches would change from the first step",
    )
    cache_features: bool = _field(
        True,
        "with trainable head: compute the backbone's features of each image once, without augmentation; false varies "
        "the images anew in each epoch, at the cost of a pass through the backbone each time",
    )
    seed: int = _field(0, "seed of split, initial weights, order, augmentation and dropout", "[0, 2147483647]")
    store: str = _field("", "HDF5 file of prepared stacks; empty for one under prepared/ named by data and settings")
    out: str = _field("", "run folder; empty for a new one under runs/")
    jobs: int = _field(0, "processes that prepare images; 0 for one per core", "[0, inf)")
    devices: int = _field(
        1,
        "devices (GPUs) that each process trains on, with JAX or TensorFlow; a batch is divided over all of them. "
        "docs/scaling.md has several processes",
        "[1, inf)",
    )
    tensorboard: bool = _field(False, "also log for TensorBoard")
    deterministic: bool = _field(True, "ask the backend for operations that give the same bits each time")

    def __post_init__(self):
        # YAML and jsonargparse give lists; equal recipes must compare equal.
        for name in ("classes", "fractions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "trainable", str(self.trainable))  # a fraction in YAML is a number
        _check_fields(self)
        if self.model not in MODELS:
            near = similar_models(str(self.model))
            raise InputError(f"model: {self.model!r} is unknown{near} (covidcxnet models list shows all)")
        # As `--model` does on the command line. The very object: who gives equal settings means them.
        if self.input is _DEFAULT_INPUT and self.model != Recipe.model:
            object.__setattr__(self, "input", dataclasses.replace(self.input, **MODELS[self.model].input))
        for name in ("data", "root", "split", "verdicts", "match_to", "init", "teacher", "store", "out"):
            _require("\0" not in str(getattr(self, name)), name, getattr(self, name), "a path without NUL")
        check_depth(str(self.trainable))
        # One class alone has nothing to be told apart from.
        different = len(set(self.classes)) == len(self.classes) != 1
        _require(different, "classes", self.classes, "two or more different labels, or none,")
        shares = self.fractions
        whole = len(shares) == 3 and min(shares[:2]) > 0 and abs(sum(shares) - 1) < 1e-6
        _require(whole, "fractions", shares, "train, validation and test shares of sum 1")
        # Only AdamW decouples the decay from the gradient; elsewhere the setting would silently do nothing.
        decays = self.weight_decay == 0 or self.optimizer == "adamw"
        _require(decays, "weight_decay", self.weight_decay, "0, or optimizer adamw,")
        if self.warmup and self.schedule != "cosine":
            raise InputError(f"warmup: works with schedule cosine only, {self.schedule} given; add warmup 0")
        if self.min_learning_rate and self.schedule == "constant":
            raise InputError("min_learning_rate: works with schedule plateau or cosine, constant given; leave it at 0")
        if self.teacher and (self.multilabel or MODELS[self.model].solve or MODELS[self.model].stages):
            kind = "independent findings" if self.multilabel else self.model
            raise InputError(
                f"teacher: works with exclusive classes and training over epochs, {kind} given; leave it out"
            )
        if self.frozen_norms and self.init == "random":
            raise InputError("frozen_norms: works with pretrained init weights only, random given; leave it out")
        # A model that is solved says itself why it has no other depth than all.
        if self.trainable == "head" and self.init == "random" and not MODELS[self.model].solve:
            raise InputError(
                "trainable: head with init random would keep the backbone at its random weights; use --trainable all, "
                "or pretrained weights such as --init imagenet"
            )
        floor = self.min_learning_rate <= self.learning_rate
        _require(floor, "min_learning_rate", self.min_learning_rate, f"at most learning_rate, {self.learning_rate:g},")
        _require(self.warmup == 0 or self.warmup < self.epochs, "warmup", self.warmup, "less than epochs")
        matched = bool(self.match_to) and bool(self.input.histogram)
        _require(not matched, "match_to", self.match_to, "it or input.histogram, not both,")
        for name in ("size", "channels"):
            hint = f"set input.{name}: the stack decides it"
            _require(name not in self.options, f"options.{name}", self.options.get(name), hint)
        given = self.options.get("multilabel")
        _require(given is None, "options.multilabel", given, "the recipe's own key multilabel")
        if self.multilabel:
            weighted = self.class_weights in ("balanced", "none")
            _require(weighted, "class_weights", self.class_weights, "multilabel: balanced or none")
            hint = "multilabel: none, as an image has several findings;"
            _require(self.sampling == "none", "sampling", self.sampling, hint)
        MODELS[self.model].check(self.to_dict(), self.task)

    @property
    def task(self) -> str:
        """Whether an image has exactly one of the classes ("exclusive") or any number of them ("independent")."""
        return "independent" if self.multilabel else "exclusive"

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, ready for YAML or JSON."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return plain | {"input": self.input.to_dict(), "augment": self.augment.to_dict()}

    def to_yaml(self) -> str:
        """The text of a recipe file."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Recipe from plain nested values; what is not named keeps its default, unknown keys are refused."""
        values = checked_keys(values)
        for name, default in (("input", dataclasses.replace(_DEFAULT_INPUT)), ("augment", AugmentSettings())):
            given = values.get(name, {})
            _require(isinstance(given, dict | type(default)), name, given, "keys and values")
            if isinstance(given, dict):
                values[name] = dataclasses.replace(default, **given)
        return cls(**values)


def save_recipe(recipe: Recipe, path: str | Path) -> Path:
    """Write a recipe as YAML, every key in it, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(recipe.to_yaml(), encoding="utf-8")
    return Path(path)


def checked_keys(values: dict[str, Any], where: str = "recipe") -> dict[str, Any]:
    """A copy of nested values without retired keys; `InputError` for an unknown key, or a retired one still in use."""
    # Copies, as retired keys are taken out of nested parts too.
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for key, accepted in RETIRED.items():
        part, _, name = key.rpartition(".")
        holder = values.get(part) if part else values
        if isinstance(holder, dict) and holder.pop(name, accepted) != accepted:
            raise InputError(f"{where}: {key} was removed; {accepted} or nothing expected, see docs/experiments.md")
    for prefix, kind in {"": Recipe, "input.": InputSettings, "augment.": AugmentSettings}.items():
        given = values.get(prefix[:-1]) if prefix else values
        known = [f.name for f in dataclasses.fields(kind)]
        unknown = sorted(set(map(str, given)) - set(known)) if isinstance(given, dict) else []
        if unknown:
            hint = did_you_mean(unknown[0], known) or "; covidcxnet train --help lists all"
            raise InputError(f"{where}: unknown key {prefix}{unknown[0]}{hint}")
    return values


def _check_fields(settings: Recipe | AugmentSettings, prefix: str = "") -> None:
    """Every field against its interval, or against the values that its type names."""
    kinds = get_type_hints(type(settings))
    for setting in dataclasses.fields(settings):
        key, value, choices = prefix + setting.name, getattr(settings, setting.name), get_args(kinds[setting.name])
        if choices and all(isinstance(choice, str) for choice in choices):
            _require(value in choices, key, value, f"one of {', '.join(choices)}")
        if interval := setting.metadata.get("interval"):
            low, high = (float(end) for end in interval[1:-1].split(","))
            inside = all(
                isinstance(number, int | float)
                and (low < number or (interval[0] == "[" and low == number))
                and (number < high or (interval[-1] == "]" and number == high))
                for number in (value if isinstance(value, tuple) else (value,))
            )
            words = f"{low:g} or more" if math.isinf(high) else f"a number in {interval}"
            _require(inside, key, value, words)


def _require(condition: bool, key: str, value: Any, allowed: str) -> None:
    if not condition:
        raise InputError(f"{key}: {value!r:.200} given, {allowed} expected")
