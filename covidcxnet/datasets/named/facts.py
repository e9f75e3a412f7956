"""What is known about a published set: plain facts, which `covidcxnet datasets show` prints and datasets.md repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """A published set of radiographs.

    Parameters
    ----------
    name : str
        What commands call it.
    title : str
        Heading of its section in datasets.md.
    origin, licence, access, size, citation : str
        Where it comes from, its terms as stated, how to get it, how much it is, what to cite.
    labels : mapping
        Our label to the key in `findings.DEFINITIONS` that says what it rests on.
    meaning : str
        How the published labels become ours.
    layout : str
        Folder and files as published and unpacked.
    patients : str
        What is known of who is on the images.
    problems : tuple of str
        What goes wrong with it.
    options : mapping
        Option name to the values allowed, the default first.
    pixels : (int, int), optional
        Width and height of every image, where they are all the same.
    unlisted : tuple of str
        Names of files and folders (glob patterns) that belong to the set and are no listed radiographs.
    """

    name: str
    title: str
    origin: str
    licence: str
    access: str
    size: str
    labels: Mapping[str, str]
    meaning: str
    layout: str
    patients: str
    problems: tuple[str, ...]
    citation: str
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pixels: tuple[int, int] | None = None
    unlisted: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The section of datasets.md."""
        return "\n".join(
            [f"## {self.title}", f"`{self.name}:FOLDER`", "", *(f"- **{k}**: {v}" for k, v in self.lines())]
        )

    def text(self) -> str:
        """The same for a terminal."""
        import textwrap

        lines = [f"{self.name}: {self.title}", ""]
        for key, value in self.lines():
            head = f"{key}: "
            lines += textwrap.wrap(head + value.replace("`", ""), 100, subsequent_indent="  ", break_long_words=False)
        return "\n".join(lines)

    def lines(self) -> list[tuple[str, str]]:
        """Heading and text of each fact."""
        given = [
            ("Origin", self.origin),
            ("Licence", self.licence),
            ("How to get it", self.access),
            ("Size", self.size),
            ("Folder", self.layout),
            ("Labels", self.meaning),
            ("Patients", self.patients),
            ("Known problems", " ".join(self.problems)),
            ("Cite", self.citation),
        ]
        if self.options:
            said = "; ".join(f"`{name}` = {' or '.join(values)}" for name, values in self.options.items())
            given.insert(6, ("Options", f"{said} (the first is the default)."))
        return given
