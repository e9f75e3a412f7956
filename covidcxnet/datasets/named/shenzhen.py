"""The Shenzhen Hospital set of the US National Library of Medicine, with Stirenko's lung masks."""

from __future__ import annotations

from pathlib import Path

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import nlm
from covidcxnet.datasets.named.facts import Facts

FACTS = Facts(
    name="shenzhen",
    title="Shenzhen",
    origin="US National Library of Medicine: Shenzhen No. 3 People's Hospital, 2012.",
    licence="open to research, cite; the masks CC BY-NC-SA 4.0.",
    access="download `ChinaSet_AllFiles.zip` from the NLM, the masks from Kaggle (`yoctoman/shcxr-lung-mask`), and "
    "unpack both into one folder; the Kaggle set `nikhilpandey360/chest-xray-masks-and-labels` has both.",
    size="662 images, 566 with a lung mask: 326 normal, 336 tuberculosis.",
    layout="`CXR_png/CHNCXR_0001_0.png`, `ClinicalReadings/CHNCXR_0001_0.txt`, `mask/CHNCXR_0001_0_mask.png`, at any "
    "depth.",
    labels={"normal": "read", "tuberculosis": "diagnosed"},
    meaning="the name's last digit: 0 normal, 1 tuberculosis. The text file gives sex and age (`male 45yrs`; also "
    "`femal 32yrs`, `16month`, `64days`) and the reading, kept in `published_label`.",
    patients="one image each.",
    problems=(
        "The masks are another group's (Stirenko et al.) and cover 566 images.",
        "Both masks and images were resized differently by those who pass them on.",
        "In masks the lung is what is filled with air, without the heart.",
    ),
    citation="Jaeger et al., Quantitative Imaging in Medicine and Surgery 4 (2014); Candemir et al., IEEE TMI 33 "
    "(2014); Stirenko et al., ELNANO (2018).",
    unlisted=("*/Annotations*/*", "Annotations*/*", "*/masks/*", "masks/*", "test/*", "*/test/*"),
)


def load(folder: str | Path) -> Dataset:
    """Read the set; see `FACTS`."""
    return nlm.load(folder, FACTS, "CHNCXR", halves=False)
