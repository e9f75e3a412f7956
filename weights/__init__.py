"""Released weights: one `.weights.h5` file and one card (`NAME.md`) each, found by name."""

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the weights that this installation carries."""
    return sorted(path.name.removesuffix(".weights.h5") for path in FOLDER.glob("*.weights.h5"))


def released(name: str) -> Path:
    """File of released weights.

    Raises
    ------
    LookupError
        If this installation carries no weights of that name; the message lists those it has.
    """
    path = FOLDER / f"{name}.weights.h5"
    if not path.is_file():
        raise LookupError(f"no released weights are named {name!r}; there are: {', '.join(names()) or 'none yet'}")
    return path
