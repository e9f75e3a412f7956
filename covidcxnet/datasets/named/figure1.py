"""The Figure 1 COVID-19 chest radiograph collection, a part of COVIDx."""

from __future__ import annotations

import re
from pathlib import Path

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import covidx
from covidcxnet.datasets.named.facts import Facts

FACTS = Facts(
    name="figure1",
    title="Figure 1",
    origin="the repository `agchung/Figure1-COVID-chestxray-dataset`, a part of COVIDx.",
    licence="research use, as its README states.",
    access="clone or download the repository; give its folder.",
    size="55 images of 48 patients.",
    layout="`images/COVID-00003a.jpg` (or `.png`) and `metadata.csv`, whose `patientid` is the image's name.",
    labels={"covid19": "diagnosed", "normal": "read", "pneumonia": "diagnosed"},
    meaning="column `finding`; where it is blank, the image has no label.",
    patients="the name without its last letter: `COVID-00003a` and `COVID-00003b` are one patient.",
    problems=("Tiny.", "Photographs of screens.", "Contained in COVID-CXNet's collection."),
    citation="Wang, Lin, Wong, *COVID-Net*, Scientific Reports 10 (2020).",
    options={"unlabelled": ("drop", "keep")},
)


def load(folder: str | Path, *, unlabelled: str = "drop") -> Dataset:
    """Read the collection; see `FACTS`."""

    def patient(given):
        return given["patientid"].map(lambda name: re.sub(r"(?<=\d)[a-z]$", "", name) or None)

    return covidx.load(folder, FACTS, "patientid", patient, unlabelled)
