"""Cohen's COVID-19 image data collection: frontal radiographs of published cases, by its `metadata.csv`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN, known_from_labels
from enhancement.errors import InputError

FACTS = Facts(
    name="cohen",
    title="Cohen, COVID-19 image data collection",
    origin="the repository `ieee8023/covid-chestxray-dataset`: cases from papers and web sites.",
    licence="per image, column `license`: Apache 2.0, CC BY-NC-SA 4.0 (many), CC BY 4.0, or not stated.",
    access="clone or download the repository; give its folder.",
    size="about 950 rows, some 760 of them radiographs, about 580 of COVID-19.",
    layout="`images/`, `volumes/` (CT) and `metadata.csv`.",
    labels={
        "normal": "read",
        "covid19": "diagnosed",
        "viral_pneumonia": "diagnosed",
        "bacterial_pneumonia": "diagnosed",
        "fungal_pneumonia": "diagnosed",
        "pneumonia": "diagnosed",
        "tuberculosis": "diagnosed",
    },
    meaning="the path in `finding` (`Pneumonia/Viral/COVID-19`; in old copies `COVID-19`, `COVID-19, ARDS`): "
    "COVID-19 is `covid19`, other viruses `viral_pneumonia`, and so on; `No Finding` is `normal`; `Unknown` and "
    "`todo` are no label. The path stays in `published_label`.",
    patients="`patientid`, with days since symptoms or admission in `offset`.",
    problems=(
        "CT slices and lateral views stand among the radiographs; views=frontal leaves them out.",
        "Figures from papers: compressed, cropped, with arrows and letters.",
        "Its images are in most later collections.",
        "Lung polygons by V7 (`v7labs/covid-19-xray-dataset`, CC BY 4.0) run behind the heart, unlike Shenzhen's and "
        "Montgomery's.",
    ),
    citation="Cohen, Morrison, Dao, *COVID-19 image data collection*, arXiv 2003.11597 (2020).",
    options={"views": ("frontal", "all"), "unlabelled": ("drop", "keep")},
    unlisted=("volumes/*", "annotations/*", "docs/*", "*.gif"),
)

_KINDS = ("bacterial", "viral", "fungal")
_SETTLED: dict[str, dict[str, float]] = {
    "normal": {"normal": 1, "pneumonia": 0, "tuberculosis": 0},
    "covid19": {"covid19": 1, "normal": float("nan")},
    **{f"{kind}_pneumonia": {f"{kind}_pneumonia": 1, "normal": 0} for kind in _KINDS},
    "pneumonia": {"pneumonia": 1, "normal": 0},
    "tuberculosis": {"tuberculosis": 1, "normal": 0},
}


def load(folder: str | Path, *, views: str = "frontal", unlabelled: str = "drop") -> Dataset:
    """Read the collection; see `FACTS`. ``views="all"`` keeps lateral views and CT slices, told by view and modality.

    Volumes are never taken.
    """
    root = layout.root_of(folder, FACTS, lambda p: (p / "metadata.csv").is_file() and (p / "images").is_dir(), 1)
    given = layout.read_table(root / "metadata.csv", ("patientid", "finding", "view", "filename"), FACTS)
    places = given["folder"].where(given["folder"] != "", "images") if "folder" in given else "images"
    table = pd.DataFrame({"path": places + "/" + given["filename"], "label": given["finding"].map(_label)})
    table["published_label"] = given["finding"]
    table["patient"] = given["patientid"].map(layout.text_or_none)
    modality = given["modality"] if "modality" in given else given["view"].map(lambda v: "CT" if v == "CT" else "X-ray")
    table["modality"] = modality
    wanted = {"sex": layout.sex, "age": layout.years, "offset": layout.text_or_none, "license": layout.text_or_none}
    table = table.assign(**layout.columns_of(given, wanted))
    table["view"], table["position"] = given["view"].map(layout.view), given["view"].map(layout.position)
    raster = table["path"].str.lower().str.endswith(layout.IMAGES)
    keep = raster & (table["path"].str.rpartition("/")[2] != "")
    if views == "frontal":
        keep &= (table["modality"].str.lower() == "x-ray") & table["view"].isin(["PA", "AP"])
    # the same file stands in two rows now and then; the first counts
    table = table[keep].drop_duplicates("path").reset_index(drop=True)
    if not len(table):
        raise InputError(f"{root / 'metadata.csv'}: no frontal radiograph is listed")
    table = table.join(known_from_labels(table["label"], _SETTLED))
    return layout.made(table, root, FACTS, unlabelled=unlabelled)


def _label(finding: str) -> str:
    said = finding.lower()
    if "covid-19" in said:
        return "covid19"
    if said == "no finding":
        return "normal"
    parts = said.replace(",", "/").split("/")
    for kind in _KINDS:
        if kind in parts:
            return f"{kind}_pneumonia"
    if "sars" in parts or "mers" in parts or "mers-cov" in parts or "varicella" in parts:
        return "viral_pneumonia"
    if "streptococcus" in parts or "klebsiella" in parts or "legionella" in parts or "e.coli" in parts:
        return "bacterial_pneumonia"
    if "pneumocystis" in parts:
        return "fungal_pneumonia"
    return next((known for known in ("tuberculosis", "pneumonia") if known in parts), UNKNOWN)
