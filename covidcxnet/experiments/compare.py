"""`compare`: several runs in one table, on one ROC axis and in one picture of learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covidcxnet.evaluation.cautions import Caution
from covidcxnet.experiments.compare_checks import comparison_cautions, differences, shared_cautions
from covidcxnet.experiments.compare_entry import Entry, load_entry
from covidcxnet.experiments.compare_rows import Row
from covidcxnet.experiments.published import citation, published_rows
from enhancement.errors import InputError
from enhancement.files import check_output, whole_file

if TYPE_CHECKING:
    from covidcxnet.training import Run

FOLDER = Path("reports") / "comparison"


@dataclass(frozen=True)
class Comparison:
    """Several runs set against each other.

    Parameters
    ----------
    folder : Path
        Holds `comparison.html`, `comparison.csv`, `comparison.md`, `roc.png` and `learning.png`.
    entries : tuple of Entry
        The runs.
    rows : tuple of Row
        The table: the runs, then what was published.
    cautions : tuple of Caution
        What forbids or weakens the comparison.
    reported : tuple of (str, list of str)
        Warnings of the runs' own reports, and the runs that have them.
    citations : tuple of str
        Of the published rows.
    created : str
        Local date and time.
    """

    folder: Path
    entries: tuple[Entry, ...]
    rows: tuple[Row, ...]
    cautions: tuple[Caution, ...] = ()
    reported: tuple[tuple[str, list[str]], ...] = ()
    citations: tuple[str, ...] = ()
    created: str = ""

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / "comparison.html"


def compare(
    runs: Sequence[str | Path | Run],
    *,
    out: str | Path | None = None,
    names: Sequence[str] = (),
    published: Sequence[str] = (),
    bootstrap: int = 2000,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = True,
) -> Comparison:
    """Compare runs on their test images and write the page, the tables and the pictures.

    Parameters
    ----------
    runs : sequence of path-like or Run
        Two or more run folders; one is enough beside published rows. Differences are taken from the first.
    out : str or Path, optional
        Folder to write to; reports/comparison by default.
    names : sequence of str, optional
        What the runs are called, one each; the names of their folders by default.
    published : sequence of str
        Studies whose printed rows stand beside: covid-cxnet, pneumonia, radiography, group-q.
    bootstrap, seed : int
        Resamples of the AUROC differences and of the runs that have no report yet, and their seed.
    batch_size, progress
        Of the evaluation of runs without a report.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If there is nothing to compare, or a run has no weights.

    Notes
    -----
    A run's own report (``RUN/report``) is used where it is of its best weights and its test split; otherwise the run is
    evaluated, which is written down in it as one more opening of its test set.
    """
    folders = _runs(runs, published)
    called = _names(folders, names)
    extra = published_rows(published)
    if bootstrap < 0:
        raise InputError(f"bootstrap: {bootstrap} given, 0 or more expected")
    target = Path(FOLDER if out is None else out)
    check_output(target, folder=True)
    options: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed, "batch_size": batch_size, "progress": progress}
    flops: dict[str, int | None] = {}
    entries = [load_entry(run, name, flops, **options) for run, name in zip(folders, called, strict=True)]
    apart = differences(entries, resamples=bootstrap, seed=seed)
    rows = [entry.row(difference) for entry, difference in zip(entries, apart, strict=True)]
    return _write(Comparison(
        folder=target,
        entries=tuple(entries),
        rows=(*rows, *extra),
        cautions=tuple(comparison_cautions(entries)),
        reported=tuple(shared_cautions(entries)),
        citations=tuple(citation(name) for name in dict.fromkeys(published)),
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
    ))  # fmt: skip


def _write(found: Comparison) -> Comparison:
    """All files or none: everything is made before the first takes its name."""
    from covidcxnet.experiments.compare_page import markdown, render
    from covidcxnet.experiments.compare_plots import draw_learning, draw_roc
    from covidcxnet.experiments.compare_tables import to_csv

    pictures = {"roc.png": draw_roc(found.entries), "learning.png": draw_learning(found.entries)}
    texts = {
        "comparison.csv": to_csv(found.rows),
        "comparison.md": markdown(found),
        "comparison.html": render(found, pictures["roc.png"], pictures["learning.png"]),
    }
    with ExitStack() as stack:
        for name, figure in pictures.items():
            if figure is not None:
                figure.savefig(stack.enter_context(whole_file(found.folder / name)), format="png", dpi=130)
        for name, text in texts.items():
            stack.enter_context(whole_file(found.folder / name)).write_text(text, encoding="utf-8")
    return found


def _runs(runs: Sequence[str | Path | Run], published: Sequence[str]) -> list[Run]:
    from covidcxnet.training import Run

    folders = [run if isinstance(run, Run) else Run(run) for run in runs]
    if len(folders) + bool(published) < 2:
        raise InputError(f"runs: {len(folders)} given, two or more expected (or one and --published)")
    seen = [run.path.resolve() for run in folders]
    twice = [run.path for run, path in zip(folders, seen, strict=True) if seen.count(path) > 1]
    if twice:
        raise InputError(f"{twice[0]}: given twice")
    return folders


def _names(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Given names, or folder names with as much of the path as tells them apart."""
    if names:
        different = len(set(names))
        if not len(names) == different == len(runs):
            raise InputError(f"names: {different} different ones given, one for each of {len(runs)} runs expected")
        return list(names)
    paths = [run.path.resolve() for run in runs]
    for parts in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        made = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(made)) == len(made):
            break
    return made
