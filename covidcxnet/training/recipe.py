"""Recipe: everything that an experiment needs, in one frozen dataclass. Flag, YAML key and Python name are one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from covidcxnet.settings import InputSettings
from enhancement.errors import InputError

from .augment_settings import AugmentSettings
from .checks import check_kind, check_model_keys

MONITORS = {
    "val_auroc": "max",
    "val_average_precision": "max",
    "val_accuracy": "max",
    "val_f1": "max",
    "val_loss": "min",
}

RETIRED = {"erase_shortcuts": 0, "augment.spectrum": 0}
"""Keys of earlier recipes and run folders, and the only value that is still accepted: what they did is gone."""

TRAINING_IMAGES = "training"
"""What `match_to` says for the mean of the training images."""


@dataclass(frozen=True)
class Recipe:
    """One training experiment. The defaults train a small CNN on the built-in phantom in a few minutes.

    In order: data and split (data to holdout), model (model, options, init), images (input, match_to, augment), steps
    (epochs to ema), loss and what is shown (label_smoothing, class_weights, sampling), choice of the epoch (monitor
    to lr_factor), and how and where it runs (precision to deterministic).

    Parameters
    ----------
    data : str
        "phantom" (images made by the program, no patients), NAME:FOLDER for a public set (`covidcxnet datasets list`),
        a folder with one sub-folder per class, or a CSV with path and label columns.
    phantom_images : int
        Number of phantom images.
    root : str
        Folder that the CSV's paths are relative to; the CSV's own folder when empty.
    verdicts : str
        CSV that `covidcxnet datasets check` wrote about the data; what it rejects is not used.
    where : dict
        Rows to use, column to value or list of values, as in {source: [nih, armiro]}.
    classes : tuple of str
        Labels to use, in order; empty for all. With two, the model gives the probability of the second.
    multilabel : bool
        Images have findings that do not exclude each other, each present, absent or unknown: columns finding_NAME of 1,
        0 and -1 or nothing, or a column labels with Effusion|Mass. `classes` are then findings; unknown ones are left
        out of loss and figures, and thresholds come from validation.
    split : str
        CSV with columns path and split (train, validation, test) to use again; empty makes one.
    split_by : {"patient", "patient_where_known", "image"}
        What must not stand on two sides of a split; the second takes each image without an id for a patient of its own.
    fractions : tuple of float
        Shares of train, validation and test in a new split.
    holdout : dict
        Rows that all go to the test set, written like `where`: a whole hospital, for one. The test share of the other
        rows goes there too, so that the report shows both; fractions that end in 0 leave the held-out rows alone.
    model : str
        A model of the registry; `covidcxnet models list` shows them.
    options : dict
        The model's own options, as in {dropout: 0.3, normalization: imagenet}; {head: pneumonia} is a head by name.
        {normalization: training} scales by mean and deviation of the training images, which the weights then hold.
    init : str
        Initial weights: random, imagenet, a released name (chexnet, covid-cxnet-chexnet, covid-cxnet), a file or a run.
    input : InputSettings
        How a radiograph becomes a stack.
    match_to : str
        Radiograph whose grey levels fill `input.histogram`, so that all others are matched to it; "training" takes the
        mean of the training images instead, each source the same weight (a file of that name is ./training); empty for
        none.
    augment : AugmentSettings
        How training images are varied.
    epochs : int
        Passes over the training set at most.
    batch_size : int
        Images in one step.
    optimizer : {"adam", "adamw", "sgd"}
        How the weights step along the gradient; SGD has Nesterov momentum 0.9.
    learning_rate : float
        Learning rate, before the schedule lowers it.
    weight_decay : float
        Decoupled weight decay of AdamW, on kernels only.
    schedule : {"plateau", "constant", "cosine"}
        How the learning rate goes: lowered on a plateau of `monitor`, kept, or a cosine to zero at the last step.
    warmup : float
        Epochs over which the cosine's rate first rises from a hundredth.
    ema : float
        Momentum of a moving average of the weights over the steps, which is what is then validated and saved, as in
        0.99; 0 for the weights themselves. Averages vary less from training to training.
    label_smoothing : float
        Share of each target spread over all classes, 0 to below 1.
    class_weights : {"balanced", "source", "source_rare", "none"}
        Whether each class counts the same in the loss, however few images it has; with "source", the classes within
        each source count the same, so that the place does not give the label, and a source by the root of its images;
        with "source_rare" also by the root of how rare its rarest class is.
    sampling : {"none", "oversample", "undersample"}
        Shows the classes of the training split equally often: small ones repeated, or as many of each as the smallest
        has, drawn anew in each epoch. Class weights are then those of what is shown, 1 for "balanced".
    monitor : {"val_auroc", "val_average_precision", "val_accuracy", "val_f1", "val_loss"}
        Validation figure that picks the best weights.
    patience : int
        Epochs without a better figure before training stops; 0 never stops early.
    lr_patience : int
        Epochs without a better figure before the learning rate falls on a plateau; 0 keeps it.
    lr_factor : float
        Factor by which the learning rate falls on a plateau.
    precision : {"float32", "mixed_bfloat16", "mixed_float16"}
        Number format of the network's arithmetic; float16 needs a GPU.
    trainable : str or float
        How deep the model is trained: "all"; "head", on backbone features computed once (without augmentation); the
        head and a last fraction of the backbone's layers, as in "0.25"; or the head and layers whose names begin so, as
        in "conv4,conv5". Batch norms that do not train keep to their moving averages.
    seed : int
        Seed of split, initial weights, order, augmentation and dropout.
    store : str
        HDF5 file of prepared stacks; empty for one under prepared/ named by data and settings.
    out : str
        Run folder; empty for a new one under runs/.
    jobs : int
        Processes that prepare images; 0 for one per core.
    tensorboard : bool
        Also log for TensorBoard.
    deterministic : bool
        Ask the backend for operations that give the same bits each time.

    Raises
    ------
    InputError
        If a value is outside its range; the message names the key and what is allowed.
    """

    data: str = "phantom"
    phantom_images: int = 900
    root: str = ""
    verdicts: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    multilabel: bool = False
    split: str = ""
    split_by: Literal["patient", "patient_where_known", "image"] = "patient"
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    holdout: dict[str, Any] = field(default_factory=dict)
    model: str = "small-cnn"
    options: dict[str, Any] = field(default_factory=dict)
    init: str = "random"
    input: InputSettings = field(default_factory=lambda: InputSettings(size=128))
    match_to: str = ""
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    epochs: int = 16
    batch_size: int = 8
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 5e-4
    weight_decay: float = 0.0
    schedule: Literal["plateau", "constant", "cosine"] = "plateau"
    warmup: float = 0.0
    ema: float = 0.0
    label_smoothing: float = 0.0
    class_weights: Literal["balanced", "source", "source_rare", "none"] = "balanced"
    sampling: Literal["none", "oversample", "undersample"] = "none"
    monitor: Literal["val_auroc", "val_average_precision", "val_accuracy", "val_f1", "val_loss"] = "val_auroc"
    patience: int = 6
    lr_patience: int = 2
    lr_factor: float = 0.5
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    trainable: str | float = "all"
    seed: int = 0
    store: str = ""
    out: str = ""
    jobs: int = 0
    tensorboard: bool = False
    deterministic: bool = True

    def __post_init__(self):
        from covidcxnet.models import MODELS
        from covidcxnet.models.finetuning import check_depth
        from covidcxnet.models.scaling import check_normalization

        for name in ("classes", "fractions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _among("split_by", self.split_by, ("patient", "patient_where_known", "image"))
        _among("model", self.model, sorted(MODELS))
        _among("class_weights", self.class_weights, ("balanced", "source", "source_rare", "none"))
        _among("optimizer", self.optimizer, ("adam", "adamw", "sgd"))
        _among("schedule", self.schedule, ("plateau", "constant", "cosine"))
        _among("sampling", self.sampling, ("none", "oversample", "undersample"))
        _among("monitor", self.monitor, MONITORS)
        _among("precision", self.precision, ("float32", "mixed_bfloat16", "mixed_float16"))
        object.__setattr__(self, "trainable", str(self.trainable))  # a fraction in YAML is a number
        check_depth(str(self.trainable))
        different = len(set(self.classes)) == len(self.classes) != 1
        _require(different, "classes", self.classes, "two or more different labels, or none,")
        shares = self.fractions
        ok = len(shares) == 3 and all(0 <= share < 1 for share in shares) and min(shares[:2], default=0) > 0
        _require(ok and abs(sum(shares) - 1) < 1e-6, "fractions", shares, "train, validation and test shares of sum 1")
        for name in ("phantom_images", "epochs", "batch_size"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("patience", "lr_patience", "jobs"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(0 <= self.seed < 2**31, "seed", self.seed, "0 to 2147483647")
        _require(0 < self.learning_rate <= 10, "learning_rate", self.learning_rate, "above 0, at most 10")
        decays = self.weight_decay == 0 or self.optimizer == "adamw"
        decays = decays and 0 <= self.weight_decay <= 1
        _require(decays, "weight_decay", self.weight_decay, "0, or with optimizer adamw at most 1,")
        warms = self.warmup == 0 or (self.schedule == "cosine" and 0 < self.warmup < self.epochs)
        _require(warms, "warmup", self.warmup, "0, or with schedule cosine less than epochs,")
        _require(0 <= self.ema < 1, "ema", self.ema, "0 to below 1")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "0 to below 1")
        _require(0 < self.lr_factor < 1, "lr_factor", self.lr_factor, "between 0 and 1")
        matched = bool(self.match_to) and bool(self.input.histogram)
        _require(not matched, "match_to", self.match_to, "it or input.histogram, not both,")
        if "normalization" in self.options:
            check_normalization(self.options["normalization"], len(self.input.channels))
        for name in ("size", "channels"):
            hint = f"set input.{name}: the stack decides it"
            _require(name not in self.options, f"options.{name}", self.options.get(name), hint)
        check_kind(self)
        check_model_keys(self)

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
        values = without_retired(values)
        refuse_unknown_keys(values)
        defaults = cls()
        for name in ("input", "augment"):
            if isinstance(values.get(name, {}), dict):
                values[name] = dataclasses.replace(getattr(defaults, name), **values.get(name, {}))
        return cls(**values)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe file; a name without ending is looked up among the packaged recipes.

    Raises
    ------
    InputError
        If there is no such file, it is not YAML, or a key or value is not a recipe's.
    """
    from .arguments import parse_recipe

    return parse_recipe(["--recipe", str(path)])


def save_recipe(recipe: Recipe, path: str | Path) -> Path:
    """Write a recipe as YAML, every key in it, whole or not at all."""
    from enhancement.files import whole_file

    with whole_file(path) as partial:
        partial.write_text(recipe.to_yaml(), encoding="utf-8")
    return Path(path)


def without_retired(values: dict[str, Any], where: str = "recipe") -> dict[str, Any]:
    """Nested values without the keys of `RETIRED`; `InputError` if one has another value than the one accepted."""
    values = dict(values)
    for key, accepted in RETIRED.items():
        part, _, name = key.rpartition(".")
        holder = values.get(part) if part else values
        if not isinstance(holder, dict) or name not in holder:
            continue
        if holder[name] != accepted:
            raise InputError(
                f"{where}: {key}: {holder[name]!r} given, but this setting was removed; leave it out, or train with "
                "the version that docs/experiments.md names"
            )
        rest = {k: v for k, v in holder.items() if k != name}
        values = values | {part: rest} if part else rest
    return values


def refuse_unknown_keys(values: dict[str, Any], where: str = "recipe") -> None:
    """`InputError` naming the first key of nested values that no recipe has."""
    parts = (("", Recipe, values), ("input.", InputSettings, values.get("input")))
    for prefix, kind, given in (*parts, ("augment.", AugmentSettings, values.get("augment"))):
        known = [f.name for f in dataclasses.fields(kind)]
        unknown = sorted(set(map(str, given)) - set(known)) if isinstance(given, dict) else []
        if unknown:
            raise InputError(f"{where}: unknown key {prefix}{unknown[0]}; there are {', '.join(known)}")


def _among(key: str, value, allowed) -> None:
    _require(value in allowed, key, value, f"one of {', '.join(allowed)}")


def _require(condition, key: str, value, allowed: str) -> None:
    if not condition:
        raise InputError(f"{key}: {value!r} given, {allowed} expected")
