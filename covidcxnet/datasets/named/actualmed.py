"""The Actualmed COVID-19 chest radiograph collection, a part of COVIDx."""

from __future__ import annotations

from pathlib import Path

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import covidx, layout
from covidcxnet.datasets.named.facts import Facts

FACTS = Facts(
    name="actualmed",
    title="Actualmed",
    origin="the repository `agchung/Actualmed-COVID-chestxray-dataset`, a part of COVIDx.",
    licence="research use, as its README states.",
    access="clone or download the repository; give its folder.",
    size="238 images.",
    layout="`images/CR.1.2.840....png` and `metadata.csv`.",
    labels={"covid19": "diagnosed", "covid_negative": "negative"},
    meaning='`COVID-19` is `covid19`. `No finding` is `covid_negative`: the notes say "covid-19 viral infection is '
    'excluded", which is no statement about the radiograph, so these are not called normal. Blank (inconclusive) is '
    "no label.",
    patients="`patientid`; one patient may be inconclusive, positive and negative on different days.",
    problems=("Small.", "Inconclusive rows.", "The image `SAMPLE.png` belongs to nobody."),
    citation="Wang, Lin, Wong, *COVID-Net*, Scientific Reports 10 (2020).",
    options={"unlabelled": ("drop", "keep")},
    unlisted=("images/SAMPLE.png",),
)


def load(folder: str | Path, *, unlabelled: str = "drop") -> Dataset:
    """Read the collection; see `FACTS`."""

    def patient(given):
        return given["patientid"].map(layout.text_or_none)

    return covidx.load(folder, FACTS, "imagename", patient, unlabelled, {"no finding": "covid_negative"})
