"""Recipes that come with the program, as YAML; `train.py --recipe NAME` finds them by name.

A recipe file may name another as its `base` and say only what differs, and may say in `about` which experiment of which
paper it is. Files that begin with an underscore are bases only.
"""

from .files import FOLDER, STUDIES, TEXTS, About, RecipeFile, load_texts, names, read
from .safe_yaml import BASE_60, load_yaml

__all__ = ["BASE_60", "FOLDER", "STUDIES", "TEXTS", "About", "RecipeFile", "load_texts", "load_yaml", "names", "read"]
