"""Sections that every report ends with: learning curves, files left out, settings, how to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from covidcxnet.evaluation import plots
from covidcxnet.evaluation.findings import Evaluation
from covidcxnet.evaluation.markup import Html, count, definitions, figure, table, tag

_MOST_ROWS = 500


def closing_sections(f: Evaluation) -> dict[str, Html | None]:
    """Id to section; None where it has nothing."""
    return {"training": _training(f), "rejected": _rejected(f), "settings": _settings(f), "reproduce": _reproduce(f)}


def _training(f: Evaluation) -> Html | None:
    """Learning curves."""
    if f.log is None or not plots.learned(f.log):
        return None
    said = f"; weights of epoch {f.best_epoch}" if f.best_epoch is not None else ""
    alt = f"Learning curves over {count(len(f.log), 'epoch')}{said}."
    note = f"{count(len(f.log), 'epoch')}{said}. Validation picks the epoch; the test split has no part in it."
    return figure(plots.svg_uri(plots.learning_curves(f.log, f.best_epoch)), alt, note)


def _rejected(f: Evaluation) -> Html | None:
    """Files that were left out, and images whose lung mask was not trusted, with reasons."""
    made: list[Html] = []
    if len(f.data.rejected):
        files = list(zip(f.data.rejected["path"], f.data.rejected["reason"], strict=True))
        caption = "Files that could not be used in any part of the data; they are in no figure."
        made.append(_listing(["File", "Reason"], files, caption, "metrics.json"))
    failed = f.failed_lungs
    if len(failed):
        reasons = failed["lungs_reasons"] if "lungs_reasons" in failed else [""] * len(failed)
        labels = [tag("span", label, class_="whole") for label in f.everything.labelled[failed.index]]
        rows = list(zip(failed["path"], labels, reasons, strict=True))
        used = " The whole image was used for them." if f.data.region != "none" else ""
        caption = f"Evaluated images whose lung mask was not trusted.{used}"
        made.append(_listing(["Image", "Label", "Reason"], rows, caption, "predictions.csv"))
    return tag("div", made) if made else None


def _settings(f: Evaluation) -> Html:
    """Input settings, recipe and environment."""
    made = [tag("h3", "From file to stack"), _listed_settings(f.input_settings)]
    if f.recipe:
        made += [tag("h3", "Recipe"), _listed_settings({k: v for k, v in f.recipe.items() if k != "input"})]
    return tag("div", made, tag("h3", "Environment"), _listed_settings(f.environment))


def _reproduce(f: Evaluation) -> Html:
    """Command lines and files."""
    made = [tag("pre", tag("code", "\n".join(f.commands)))] if f.commands else []
    files = tag("p", "Beside this page: ", tag("code", "metrics.json"), " (every number with its interval), ",
                tag("code", "predictions.csv"), " (every image) and ", tag("code", "card.md"),
                " (the measured part of a model card).")  # fmt: skip
    return tag("div", made, files)


def _listing(header: list[str], rows: list, caption: str, file: str) -> Html:
    """The first rows; `file` is the one beside the page that has them all."""
    left = len(rows) - _MOST_ROWS
    more = tag("p", f"{left:,} more stand in {file}.", class_="note") if left > 0 else None
    return Html(table(header, rows[:_MOST_ROWS], caption, class_="text") + (more or ""))


def _listed_settings(values: Mapping[str, Any]) -> Html:
    pairs = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            pairs += [(f"{key}.{inner}", tag("code", _setting(v))) for inner, v in value.items()]
        else:
            pairs.append((key, tag("code", _setting(value))))
    return definitions(pairs, class_="settings")


def _setting(value: Any) -> str:
    if isinstance(value, str):
        return value or "–"
    if isinstance(value, (list, tuple)) and len(value) > 20:
        return f"{len(value)} numbers"
    return json.dumps(value, default=str)
