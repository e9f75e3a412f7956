"""Training: a `Recipe` says everything that an experiment needs, a `Run` is a folder that says all that happened."""

from .augment_settings import AugmentSettings
from .recipe import Recipe, load_recipe, save_recipe
from .run import Run
from .trainer import train

__all__ = ["AugmentSettings", "Recipe", "Run", "load_recipe", "save_recipe", "train"]
