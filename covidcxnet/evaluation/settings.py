"""How an evaluation is done, whatever model and images it is of."""

from __future__ import annotations

from dataclasses import dataclass

from enhancement.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings of `evaluate` that say nothing of model or images.

    Parameters
    ----------
    threshold, bootstrap, seed, explain, lime, lime_samples, batch_size, progress
        As in `evaluate`.

    Raises
    ------
    InputError
        If one is outside its range.
    """

    threshold: float | str
    bootstrap: int
    seed: int
    explain: bool
    lime: int
    lime_samples: int
    batch_size: int
    progress: bool

    def __post_init__(self):
        for name, least in (("lime", 0), ("bootstrap", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value < least:
                raise InputError(f"{name}: {value} given, {least} or more expected")
        cut = self.threshold
        if cut != "auto" and not (isinstance(cut, (int, float)) and 0 < cut < 1):
            raise InputError(f"threshold: {cut!r} given, auto or a number between 0 and 1 expected")
