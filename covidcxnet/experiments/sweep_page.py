"""What a sweep leaves in its folder: the page, the tables and the plot, all of them or none."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from covidcxnet.evaluation.markup import Html, count, figure, tag
from covidcxnet.evaluation.page import NOTICE, footer, page
from covidcxnet.evaluation.plots import data_uri
from covidcxnet.experiments.compare_page import STYLE
from covidcxnet.experiments.compare_plots import svg
from covidcxnet.experiments.grid import data_key, text_of
from covidcxnet.experiments.outcome import cells_of
from covidcxnet.experiments.sweep_plot import draw
from covidcxnet.experiments.sweep_tables import runs_csv, to_csv, to_html, to_markdown
from enhancement.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from covidcxnet.experiments.sweep import Sweep


def write(found: Sweep) -> None:
    """Make everything first, then give every file its name."""
    picture = draw(found)
    texts = {
        "runs.csv": runs_csv(found),
        "sweep.csv": to_csv(found),
        "sweep.md": markdown(found),
        "sweep.html": render(found, picture),
    }
    with ExitStack() as stack:
        if picture is not None:
            picture.savefig(stack.enter_context(whole_file(found.folder / "sweep.png")), format="png", dpi=130)
        for name, text in texts.items():
            stack.enter_context(whole_file(found.folder / name)).write_text(text, encoding="utf-8")


def render(found: Sweep, picture: Figure | None) -> str:
    """The page as text."""
    body = tag(
        "main",
        tag("header",
            tag("div", tag("h1", title(found)), tag("p", _when(found), class_="when")),
            tag("p", NOTICE, class_="research")),
        _phantom(found),
        _list("Before you choose", cautions(found)),
        tag("h2", "Figures"),
        to_html(found),
        tag("p", _intervals(found), class_="note"),
        _picture(picture),
        _failed(found),
        footer(found.created),
    )  # fmt: skip
    return page(title(found), body, STYLE)


def markdown(found: Sweep) -> str:
    """Warnings and the table."""
    warned = [f"> **{name}.** {text}" for name, text in cautions(found)]
    return "\n".join([
        f"# {title(found)}", "", f"{NOTICE}. {_when(found)}", "",
        *[line for text in warned for line in (text, ">")][:-1], *([""] if warned else []),
        to_markdown(found), "", _intervals(found), "",
    ])  # fmt: skip


def title(found: Sweep) -> str:
    """``Sweep of learning_rate``."""
    return f"Sweep of {', '.join(found.keys)}" if found.keys else f"{found.repeats} repeats of one recipe"


def cautions(found: Sweep) -> list[tuple[str, str]]:
    """What must be known before a value is chosen from these figures."""
    said = []
    if found.failed:
        names = "; ".join(outcome.trial.name for outcome in found.failed)
        said.append((f"{count(len(found.failed), 'training')} failed", f"{names}. The same command tries again."))
    lost = [outcome for outcome in found.outcomes if outcome.collapsed]
    if lost:
        cells = {cell.name: [n for n in cell.notes if "F1 0" in n] for cell in cells_of(found.outcomes)}
        names = "; ".join(f"{name} ({', '.join(notes)})" for name, notes in cells.items() if notes)
        said.append(("A class is never found", f"{names}. A mean over classes or repeats hides that."))
    if len({data_key(outcome.trial.recipe) for outcome in found.outcomes}) > 1:
        text = "Data or split differ between cells, so their figures were not measured on the same images."
        said.append(("Test images differ", text))
    if found.tested and found.keys:
        text = "A value chosen by its test figure has been fitted to the test set; choose by the validation figure."
        said.append(("The test set was opened for every training", text))
    if found.repeats == 1:
        text = "Another seed moves figures too, often by more than the values differ here; --repeats shows how far."
        said.append(("One training each", text))
    return said


def _when(found: Sweep) -> str:
    cells = len(cells_of(found.outcomes))
    model = found.recipe.model if "model" not in found.keys else "several models"
    rest = f"{model}, data {found.recipe.data}" if "data" not in found.keys else model
    return f"{count(len(found.outcomes), 'training')} in {count(cells, 'cell')}: {rest}; {found.created}."


def _intervals(found: Sweep) -> str:
    if found.repeats > 1:
        return (
            "Means over repeats, which share data and split and differ in the seed of weights, order, augmentation and "
            "dropout; 95% intervals are Student's t over repeats, cut at 0 and 1. They say what another training might "
            "give on these test images, not what other patients would."
        )
    if not found.tested:
        return "One training each: there is nothing to take an interval over."
    return "95% intervals: bootstrap over patients, for one training each."


def _phantom(found: Sweep) -> Html | None:
    if found.recipe.data != "phantom" or "data" in found.keys:
        return None
    text = (
        "Phantom runs: the images are computed and show no patient. These figures say nothing about real radiographs."
    )
    return tag("p", tag("strong", text), class_="phantom")


def _list(name: str, items: list[tuple[str, str]]) -> Html | None:
    if not items:
        return None
    lines = [tag("li", tag("strong", f"{key}."), " ", text) for key, text in items]
    return tag("section", tag("h2", name), tag("ul", lines), class_="cautions", aria_label="Warnings")


def _picture(picture: Figure | None) -> Html | None:
    if picture is None:
        return None
    alt = "Figures of each training and each cell; the numbers are those of the table."
    return tag("section", tag("h2", "Plot"), figure(data_uri(svg(picture), "image/svg+xml"), alt, None, "wide"))


def _failed(found: Sweep) -> Html | None:
    if not found.failed:
        return None
    lines = [tag("li", tag("strong", f"{o.trial.name}: "), o.reason) for o in found.failed]
    return tag("section", tag("h2", "Failed"), tag("ul", lines))


def dry_text(found_keys: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    """A plan as lines of text: name, folder, status."""
    widths = [max(len(row[k]) for row in rows) for k in range(2)]
    lines = [f"{name:<{widths[0]}}  {folder:<{widths[1]}}  {what}" for name, folder, what in rows]
    swept = ", ".join(map(text_of, found_keys)) or "nothing but the seed"
    left = sum(what != "finished" for _, _, what in rows)
    return "\n".join([*lines, f"{count(len(rows), 'training')}, {left} left to do; swept: {swept}"])
