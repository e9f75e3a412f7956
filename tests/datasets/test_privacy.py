"""From a hospital's archive to heatmaps: no file and no line on the way says who a patient is."""

import base64
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import write_chest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLSLossless

from covidcxnet.cli import main
from covidcxnet.datasets.phantom import phantom
from enhancement import RadiographError, read_radiograph

PATIENTS = 8
BORN = ("19310412", "19670923")
INSTITUTION, PHYSICIAN = "Krankenhaus Quellenhof", "Przybylski^Xaveria"


def _tags(number: int) -> dict[str, str]:
    """Identifiers of one patient, each found nowhere else."""
    first, last = f"Quintilian{number:02d}", f"Featherston{number:02d}"
    return {
        "PatientID": f"QX{7301 + number}ZW",
        "PatientName": f"{last}^{first}",
        "PatientBirthDate": BORN[number % 2],
        "OtherPatientIDs": f"INSUREE-{88000 + number}-K",
        "PatientAddress": f"Wobblegate {number} Lane",
        "AccessionNumber": f"ACC{55501 + number}J",
        "InstitutionName": INSTITUTION,
        "ReferringPhysicianName": PHYSICIAN,
        "StudyDescription": f"chest of {last}",
        "ImageComments": f"call {first}",
        "WindowCenterWidthExplanation": last,
        "StudyDate": "20200315",
    }


def _dicom(path: Path, number: int, label: str, seed: int) -> list[str]:
    """Write a radiograph of a patient; its unique ids."""

    def hide(dataset):
        code = FileDataset("", {})
        code.CodeMeaning = f"Featherston{number:02d}"
        dataset.RequestAttributesSequence = Sequence([code])
        dataset.private_block(0x0011, "HOSPITAL", create=True).add_new(1, "LO", f"QX{7301 + number}ZW")

    pixels, window = phantom(label, seed, 96).image.astype(np.uint16) << 4, {"WindowCenter": 2048, "WindowWidth": 4096}
    return write_chest(path, pixels, change=hide, **window, **_tags(number))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two radiographs each of eight patients and their labels by accession number; and all that must stay here."""
    root = tmp_path_factory.mktemp("hospital")
    secrets: set[str] = {INSTITUTION, "Quellenhof", "20200315", *BORN, *PHYSICIAN.split("^")}
    rows = []
    for number in range(PATIENTS):
        label = "covid19" if number % 2 else "normal"
        for k in range(2):
            secrets |= set(_dicom(root / "pacs" / f"s{number}" / f"IM{k}.dcm", number, label, 10 * number + k))
        tags = _tags(number)
        secrets |= {value for name, value in tags.items() if name not in ("PatientName", "StudyDate")}
        secrets |= set(tags["PatientName"].split("^"))
        rows.append((tags["AccessionNumber"], label))
    pd.DataFrame(rows, columns=["AccessionNumber", "label"]).to_csv(root / "labels.csv", index=False)
    return root, sorted(secrets)


def _everything(folder: Path) -> dict[str, bytes]:
    """All bytes of all files, and what lies packed in them: HDF5 text, PNG text, pictures inside pages."""
    found = {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        packed = [str(path.name).encode(), content, _png(path)]
        if h5py.is_hdf5(path):
            packed += _hdf5(path)
        if path.suffix == ".html":
            for n, data in enumerate(re.findall(rb"base64,([A-Za-z0-9+/=]+)", content)):
                picture = folder.parent / f"inside{n}"
                picture.write_bytes(base64.b64decode(data))
                packed += [picture.read_bytes(), _png(picture)]
        found[str(path.relative_to(folder))] = b"\n".join(packed).lower()
    return found


def _hdf5(path: Path) -> list[bytes]:
    values: list[bytes] = []

    def visit(name, item):
        values.extend([name.encode(), *(repr(value).encode() for value in item.attrs.values())])
        if isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype):
            values.append(b"\n".join(np.atleast_1d(item[()]).ravel().tolist()))
        elif isinstance(item, h5py.Dataset):
            values.append(np.asarray(item[()]).tobytes())

    with h5py.File(path) as file:
        visit("/", file)
        file.visititems(visit)
    return values


def _png(path: Path) -> bytes:
    if not path.read_bytes().startswith(b"\x89PNG"):
        return b""
    with Image.open(path) as picture:
        picture.load()
        return repr(picture.info).encode()


def _whole_way(pacs: Path, table: Path, run: Path, out: Path) -> None:
    main(["datasets", "check", str(table), "--out", str(out / "verdicts.csv"), "--jobs", "1"])
    main(["datasets", "duplicates", str(table), "--out", str(out / "copies.csv"), "--jobs", "1"])
    settings = ["--data", str(table), "--store", str(out / "store.h5"), "--input.size", "32", "--input.region", "none"]
    assert main(["prepare", *settings]) in (0, 1)
    options = ["--model", "small-cnn", "--options", "{filters: [4, 4], hidden: [4]}", "--epochs", "1", "--jobs", "1"]
    assert main(["train", *settings, *options, "--fractions", "[0.5, 0.25, 0.25]", "--out", str(run)]) == 0
    assert main(["evaluate", str(run), "--lime", "1", "--lime-samples", "20", "--bootstrap", "5"]) == 0
    weights, csv = ["--weights", str(run / "best.weights.h5")], ["--csv", str(out / "predictions.csv")]
    few = [str(pacs / "s0"), str(pacs / "s1")]
    main(["predict", *few, *weights, "--explain", "gradcam", "--full-size", "--out", str(out / "maps"), *csv])
    main(["predict", str(pacs / "s0"), str(pacs / "missing.dcm"), *weights, "--json"])


def test_no_identifier_reaches_any_file_or_line(archive, eager, coarse, tmp_path, capfd, monkeypatch):
    root, secrets = archive
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    table, run = out / "table.csv", out / "run"
    key = ["--key", str(tmp_path / "key")]
    dicom = ["datasets", "dicom", str(root / "pacs"), "--out", str(table), "--labels", str(root / "labels.csv"), *key]
    assert main(dicom) == 0
    # damaged after they were listed, so that what reads them has to say why it cannot
    spoilt = {root / "pacs" / "s0" / "IM1.dcm": 0.5, root / "pacs" / "s1" / "IM1.dcm": 0.02}
    for path, share in spoilt.items():
        path.write_bytes((data := path.read_bytes())[: int(share * len(data))])
    _whole_way(root / "pacs", table, run, out)
    heard = capfd.readouterr()
    written = {**_everything(out), "(screen)": (heard.out + heard.err).lower().encode()}
    assert {"table.csv", "run/split.csv", "run/run.json", "run/report/report.html", "store.h5"} <= set(written)
    assert sum(name.endswith(".gradcam.png") for name in written) >= 2
    leaks = [(name, s) for name, content in written.items() for s in secrets if s.lower().encode() in content]
    assert not leaks
    patients = pd.read_csv(table)["patient"]
    assert patients.nunique() == PATIENTS and patients.str.fullmatch("[0-9a-f]{16}").all()


def test_the_search_finds_what_is_hidden_in_packed_text(tmp_path):
    """The test above is worth something: the same search finds identifiers where they are."""
    info, out = PngInfo(), tmp_path / "out"
    out.mkdir()
    info.add_text("Comment", "Featherston01 " * 40, zip=True)
    Image.new("L", (8, 8)).save(out / "a.png", pnginfo=info)
    with h5py.File(out / "b.h5", "w") as file:
        file.create_dataset("names", data=["Featherston01"] * 50, dtype=h5py.string_dtype(), compression="gzip")
    page = base64.b64encode((out / "a.png").read_bytes()).decode()
    (out / "c.html").write_text(f'<img src="data:image/png;base64,{page}">')
    assert [b"featherston01" in content for content in _everything(out).values()] == [True] * 3


def test_a_decoder_that_is_missing_tells_no_name(archive, tmp_path, monkeypatch):
    dataset = pydicom.dcmread(archive[0] / "pacs" / "s0" / "IM0.dcm")
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"no such codestream"])
    dataset.save_as(tmp_path / "odd.dcm")
    for window in (None, 2):
        with pytest.raises(RadiographError) as refused:
            read_radiograph(tmp_path / "odd.dcm", window=window)
        assert not [s for s in archive[1] if s.lower() in str(refused.value).lower()]
