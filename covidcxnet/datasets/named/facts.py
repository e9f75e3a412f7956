"""What is known about the published sets, from ``facts.yaml`` beside this file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from covidcxnet.recipes import load_yaml
from enhancement.errors import InputError


@dataclass(frozen=True)
class Facts:
    """A published set of radiographs, in sentences that `covidcxnet datasets show` prints."""

    name: str  # what commands call it
    title: str  # heading of its section in datasets.md
    origin: str
    licence: str  # as its provider states it
    access: str  # how to get it
    size: str
    labels: Mapping[str, str]  # ours, to the key of `vocabulary.DEFINITIONS` that says what each rests on
    meaning: str  # how the published labels become ours
    layout: str  # folders and files as published and unpacked
    patients: str
    problems: tuple[str, ...]
    citation: str
    settles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # label to findings: 1 present, 0 absent
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # values allowed, the default first
    pixels: tuple[int, int] | None = None  # width and height, where all images have the same
    unlisted: tuple[str, ...] = ()  # patterns of files that belong to the set and are no listed radiographs

    def markdown(self) -> str:
        """The section of datasets.md."""
        lines = [f"- **{heading}**: {text}" for heading, text in self.lines()]
        return "\n".join([f"## {self.title}", f"`{self.name}:FOLDER`", "", *lines])

    def text(self) -> str:
        """The same for a terminal."""
        lines = [f"{self.name}: {self.title}", ""]
        for heading, text in self.lines():
            plain = f"{heading}: {text.replace('`', '')}"
            lines += textwrap.wrap(plain, 100, subsequent_indent="  ", break_long_words=False)
        return "\n".join(lines)

    def lines(self) -> list[tuple[str, str]]:
        """Heading and text of each fact."""
        options = "; ".join(f"`{name}` = {' or '.join(values)}" for name, values in self.options.items())
        lines = [
            ("Origin", self.origin),
            ("Licence", self.licence),
            ("How to get it", self.access),
            ("Size", self.size),
            ("Folder", self.layout),
            ("Labels", self.meaning),
            ("Options", f"{options} (the first is the default)." if options else ""),
            ("Patients", self.patients),
            ("Known problems", " ".join(self.problems)),
            ("Cite", self.citation),
        ]
        return [(heading, text) for heading, text in lines if text]


@cache
def all_facts() -> dict[str, Facts]:
    """Facts of every set by name, in the order in which they are listed."""
    texts = load_yaml(files(__package__).joinpath("facts.yaml").read_text(encoding="utf-8"))
    facts = {}
    for name, values in texts.items():
        options = {option: tuple(allowed) for option, allowed in values.pop("options", {}).items()}
        lists = {key: tuple(values[key]) for key in ("problems", "pixels", "unlisted") if key in values}
        facts[name] = Facts(name, **{**values, **lists, "options": options})
    return facts


def facts_of(name: str) -> Facts:
    """Facts about a set; `InputError` with the list of sets for an unknown name."""
    if name not in all_facts():
        raise InputError(f"{name!r} is not a set known by name; there are: {', '.join(all_facts())}")
    return all_facts()[name]
