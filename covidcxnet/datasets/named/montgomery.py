"""The Montgomery County set of the US National Library of Medicine, its left and right lung masks as one."""

from __future__ import annotations

from pathlib import Path

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import nlm
from covidcxnet.datasets.named.facts import Facts

FACTS = Facts(
    name="montgomery",
    title="Montgomery",
    origin="US National Library of Medicine: Department of Health and Human Services, Montgomery County, Maryland.",
    licence="open to research, cite.",
    access="download `NLM-MontgomeryCXRSet.zip` from the NLM and unpack; give the folder `MontgomerySet` or the one "
    "above it.",
    size="138 images of 4020 x 4892 or 4892 x 4020 pixels, all with masks: 80 normal, 58 tuberculosis.",
    layout="`CXR_png/MCUCXR_0001_0.png`, `ClinicalReadings/MCUCXR_0001_0.txt`, `ManualMask/leftMask/` and "
    "`ManualMask/rightMask/`.",
    labels={"normal": "read", "tuberculosis": "diagnosed"},
    meaning="the name's last digit: 0 normal, 1 tuberculosis. The text file gives sex (`F`, `M`, once `O`), age "
    "(`027Y`) and the reading, kept in `published_label`. Left and right mask stand in one cell of `mask`, separated "
    "by `;`: their union counts.",
    patients="one image each.",
    problems=("Some patients are children.", "In masks the lung is what is filled with air, without the heart."),
    citation="Jaeger et al., Quantitative Imaging in Medicine and Surgery 4 (2014); Candemir et al., IEEE TMI 33 "
    "(2014).",
    unlisted=("*Mask/*",),
)


def load(folder: str | Path) -> Dataset:
    """Read the set; see `FACTS`."""
    return nlm.load(folder, FACTS, "MCUCXR", halves=True)
