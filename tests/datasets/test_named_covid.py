"""Published COVID-19 sets, each from a miniature of its real folder, quirks included."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from miniatures import by_path

from covidcxnet.datasets.named import load_named
from enhancement.errors import InputError


def test_covidcxnet_names_and_metadata_are_joined_by_number(lay):
    head = "filename,patient_id,sex,age,view,label,pcr_test,survival,location\n"
    rows = (
        "260.jpg,10,female,68,,COVID-19,positive,,Spain\n"
        "280-.jpg,18,male,67,PA,COVID-19,positive,,Spain\n"
        "364.jfif,55,male,56,,COVID-19,positive,,Spain\n"
        "500.jpg,70,male,5,,COVID-19,negative,,Iran\n"
        "900.jpg,99,male,50,,COVID-19,positive,,Iran\n"
    )
    place = "chest_xray_images/covid19/"
    names = ["001.jpeg", "260.jpg", "280-.jpg", "364.jfif", "500p.jpg", "712p.png", ".DS_Store"]
    root = lay({**{place + n: None for n in names}, "metadata.csv": head + rows, "BEASF.py": "print()"})
    dataset = load_named("covidcxnet", root)
    table = by_path(dataset)
    assert dataset.classes == ("covid19",) and set(table["source"]) == {"covidcxnet"}
    assert place + "500p.jpg" not in table.index, "a negative test is no label"
    assert table.at[place + "364.jfif", "patient"] == "55" and table.at[place + "260.jpg", "sex"] == "F"
    assert table.at[place + "280-.jpg", "abnormality"] == "none" and table.at[place + "280-.jpg", "view"] == "PA"
    assert table.at[place + "712p.png", "population"] == "child"
    assert table["patient"].isna()[place + "001.jpeg"], "below 260 nobody knows the patient"
    assert place + "900.jpg" in table.index, "listed and missing: the check's business"
    kept = load_named("covidcxnet", root, unlabelled="keep")
    assert by_path(kept).at[place + "500p.jpg", "label"] == "unknown"


COHEN = (
    "patientid,offset,sex,age,finding,RT_PCR_positive,survival,view,modality,date,location,"
    "folder,filename,doi,url,license,"
    "clinical_notes,other_notes,\n"
    '2,0,M,65,Pneumonia/Viral/COVID-19,Y,Y,PA,X-ray,"January 22, 2020","Hanoi, Vietnam",images,a.jpeg,,,CC BY,'
    '"lung, left",,\n'
    "2,3,M,65,Pneumonia/Viral/COVID-19,Y,Y,L,X-ray,2020,,images,a-lateral.jpeg,,,CC BY,,,\n"
    "3,4,M,74,Pneumonia/Viral/SARS,,N,AP Supine,X-ray,2004,,images,b.png,,,,,,\n"
    "4,,F,,Pneumonia/Bacterial/Streptococcus,,,AP,X-ray,,,images,c.jpg,,,,,,\n"
    "5,,F,52,No Finding,,,PA,X-ray,,,images,d.jpg,,,,,,\n"
    "6,,F,52,todo,,,PA,X-ray,,,images,e.jpg,,,,,,\n"
    "7,,F,52,Pneumonia/Viral/COVID-19,Y,,Axial,CT,,,images,f.jpg,,,,,,\n"
    "8,,F,52,Pneumonia/Viral/COVID-19,Y,,Coronal,CT,,,volumes,g.nii.gz,,,,,,\n"
    "9,,F,52,Pneumonia,,,AP Erect,X-ray,,,images,h.jpg,,,,,,\n"
)


def test_cohen_takes_frontal_radiographs_and_reads_the_path_of_findings(lay, capsys):
    root = lay({f"images/{n}": None for n in ("a.jpeg", "b.png", "c.jpg")} | {"metadata.csv": COHEN})
    dataset = load_named("cohen", root)
    table = by_path(dataset)
    assert list(table["label"]) == ["covid19", "viral_pneumonia", "bacterial_pneumonia", "normal", "pneumonia"]
    assert "1 of 6 images have no label" in capsys.readouterr().err
    assert table.at["images/b.png", "view"] == "AP" and table.at["images/b.png", "position"] == "supine"
    assert table.at["images/a.jpeg", "patient"] == "2" and table.at["images/a.jpeg", "age"] == 65
    assert dataset.findings["pneumonia"][1] == 1, "a viral pneumonia is a pneumonia"
    assert np.isnan(dataset.findings["pneumonia"][0]), "COVID-19 need not be one"
    assert np.isnan(dataset.findings["bacterial_pneumonia"][4]), "a pneumonia of unknown cause"
    everything = by_path(load_named("cohen", root, views="all"))
    assert everything.at["images/a-lateral.jpeg", "view"] == "lateral" and "images/f.jpg" in everything.index
    assert "volumes/g.nii.gz" not in everything.index
    first = (  # edition
        "Patientid,offset,sex,age,finding,survival,view,date,location,filename,doi, url,license,notes\n"
        '1, ,,,COVID-19,,PA,2019,,a.jpg,,,,\n2,0,M,65,"COVID-19, ARDS",Y,PA,2020,,b.jpg,,,,\n'
        "13,4,M,35,COVID-19,Y,L,2020,,c.jpg,,,,\n17,9,M,54,COVID-19,Y,CT,2020,,d.jpg,,,,\n5,,,,ARDS,,PA,,,e.png,,,,\n"
    )
    first += "6,,,,COVID-19,,PA,,,RA-1,,,,\n7,,,,COVID-19,,PA,,,RA-2,,,,\n"  # names without their ending
    files = {"metadata.csv": first, "images/a.jpg": None, "images/RA-1.jpg": None}
    table = by_path(load_named("cohen", lay(files, "first")))
    assert list(table.index) == ["images/a.jpg", "images/b.jpg", "images/RA-1.jpg"]
    assert set(table["label"]) == {"covid19"}
    assert "1 rows name no picture and are left out, the first images/RA-2" in capsys.readouterr().err


def test_hannover_reads_patient_projection_and_offsets(lay):
    text = (
        "patient_id,image_id,sex,age,size,weight,admission_offset,icu_admission_offset,icu_release_offset,death_offset,"
        "modality,projection,crp_offset,crp_val\n"
        "042f06a9,b343e657,m,,,,0,0.0,4.0,,CR,ap,0.0,5.0\n042f06a9,c9280a30,m,,,,-2,-2.0,2.0,,CR,ap,0.0,-inf\n"
        "0f2b9fbd,5f619d7e,f,,,,0,,,,DX,pa,0.0,11.0\n"
    )
    dataset = load_named("hannover", lay({"data.csv": text, "png/b343e657.png": None, "nii/readme.md": "x"}))
    assert list(dataset.table["path"]) == ["png/b343e657.png", "png/c9280a30.png", "png/5f619d7e.png"]
    assert list(dataset.table["patient"]) == ["042f06a9", "042f06a9", "0f2b9fbd"]
    assert list(dataset.table["view"]) == ["AP", "AP", "PA"] and "age" not in dataset.table
    assert dataset.table["icu_release_offset"][0] == 4 and dataset.table["sex"][2] == "F"


HEAD = (
    "patientid,offset,sex,age,finding,survival,temperature,pO2 saturation,view,modality,{},artifacts/distortion,notes\n"
)


def test_figure1_finds_images_by_patient_and_joins_their_letters(lay):
    text = HEAD.format("originalfile") + (
        "COVID-00002,,M,50+,COVID-19,,,,AP erect,X-ray,x.jpeg,,\nCOVID-00003a,8,M,28,COVID-19,,"
        "39.1,90,AP erect,X-ray,y,,\n"
        "COVID-00003b,8,M,28,COVID-19,,39.1,90,AP erect,X-ray,z,,\nCOVID-00005,,,,,,,,,X-ray,,,"
        "\nCOVID-00006,,F,60s,No finding,,,,PA,X-ray,,,\n"
    )
    images = {f"images/COVID-{n}": None for n in ("00002.jpg", "00003a.png", "00003b.jpg", "00005.jpg")}
    dataset = load_named("figure1", lay({**images, "metadata.csv": text}))
    assert list(dataset.table["path"][:3]) == [f"images/COVID-0000{n}" for n in ("2.jpg", "3a.png", "3b.jpg")]
    assert dataset.table["patient"][1] == dataset.table["patient"][2] == "COVID-00003"
    assert list(dataset.table["age"]) == [50, 28, 28, 60] and dataset.table["position"][0] == "erect"
    assert "images/COVID-00005.jpg" not in set(dataset.table["path"]), "no finding given"


def test_a_negative_test_of_actualmed_is_not_called_normal(lay):
    text = HEAD.format("imagename") + (
        'ANON196,,,,,,,,PA,X-ray,CR.1.2.840.20200313.png,,"Inconclusive, date taken (YYYYMMDD): 20200313"\n'
        'ANON196,,,,COVID-19,,,,PA,X-ray,CR.1.2.840.20200318.png,,", date taken (YYYYMMDD): 20200318"\n'
        'ANON56,,,,No finding,,,,PA,X-ray,DX.1.2.840.20200317.png,,"Negative (covid-19 viral infection is excluded)"\n'
    )
    files = {f"images/{n}.png": None for n in ("CR.1.2.840.20200313", "CR.1.2.840.20200318", "SAMPLE")}
    dataset = load_named("actualmed", lay({**files, "metadata.csv": text}))
    assert list(dataset.table["label"]) == ["covid19", "covid_negative"] and "normal" not in dataset.classes
    assert list(dataset.findings["covid19"]) == [1, 0] and "normal" not in dataset.findings
    assert list(dataset.table["path"]) == ["images/CR.1.2.840.20200318.png", "images/DX.1.2.840.20200317.png"]


def workbook(rows) -> bytes:
    strings = [cell for row in rows for cell in row]
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    cells = ""
    for r, row in enumerate(rows, 1):
        columns = (f'<c r="{"ABCD"[c]}{r}" t="s"><v>{strings.index(text)}</v></c>' for c, text in enumerate(row))
        cells += f'<row r="{r}">{"".join(columns)}</row>'
    shared = "".join(f"<si><t>{text}</t></si>" for text in strings)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{cells}</sheetData></worksheet>")
        archive.writestr("xl/sharedStrings.xml", f"<sst {space}>{shared}</sst>")
    return out.getvalue()


def test_radiography_database_has_masks_origins_and_no_patients(lay):
    top = "COVID-19_Radiography_Dataset/"
    files = {top + "Viral Pneumonia/images/Viral Pneumonia-1.png": None}
    for name in ("COVID-1", "COVID-19", "Lung_Opacity-1", "Normal-1"):
        place = top + name.partition("-")[0]
        files |= {f"{place}/images/{name}.png": None, f"{place}/masks/{name}.png": None}
    sites = {"COVID-1": "https://sirm.org/category/covid-19/", "COVID-19": "https://github.com/armiro/COVID-CXNet"}
    rows = [["FILE NAME", "FORMAT", "SIZE", "URL"], *([name, "PNG", "256*256", url] for name, url in sites.items())]
    files[top + "COVID.metadata.xlsx"] = workbook(rows)
    root = lay(files)
    dataset = load_named("radiography", root)
    assert dataset.root == root / "COVID-19_Radiography_Dataset" and dataset.group is None
    assert dataset.classes == ("normal", "covid19", "lung_opacity", "viral_pneumonia")
    table = by_path(dataset)
    assert table.at["COVID/images/COVID-1.png", "mask"] == "COVID/masks/COVID-1.png"
    assert table["mask"].isna()["Viral Pneumonia/images/Viral Pneumonia-1.png"] and len(table) == 5
    assert table.at["COVID/images/COVID-1.png", "origin"] == "sirm.org"
    assert table.at["COVID/images/COVID-19.png", "origin"] == "github.com/armiro/covid-cxnet"
    blocks = load_named("radiography", root, blocks="20").table.set_index("path")["patient"]
    assert blocks["COVID/images/COVID-1.png"] == blocks["COVID/images/COVID-19.png"]


def test_group_q_takes_3600_normals_of_the_radiography_database_once_and_all_of_the_others(tmp_path):
    for name, images in (("Normal", 3605), ("COVID", 5), ("Viral Pneumonia", 4)):
        (tmp_path / name).mkdir()
        for number in range(images):
            (tmp_path / name / f"{name}-{number}.png").touch()
    first, again = (load_named("radiography", tmp_path, normals="3600").table for _ in range(2))
    assert first["label"].value_counts().to_dict() == {"normal": 3600, "covid19": 5, "viral_pneumonia": 4}
    assert list(first["path"]) == list(again["path"]) and len(load_named("radiography", tmp_path).table) == 3614


def test_the_first_edition_of_the_radiography_database_is_read_and_a_damaged_workbook_refused_by_name(lay):
    files = ["COVID-19/COVID-19 (1).png", "NORMAL/NORMAL (7).png", "Viral Pneumonia/Viral Pneumonia (3).png"]
    dataset = load_named("radiography", lay(dict.fromkeys(files)))
    assert sorted(dataset.table["path"]) == files and "mask" not in dataset.table
    assert dataset.classes == ("normal", "covid19", "viral_pneumonia")
    files = {f"{name}/images/{name}-1.png": None for name in ("COVID", "Normal", "Lung_Opacity")}
    with pytest.raises(InputError, match=r"COVID.metadata.xlsx: not an \.xlsx"):
        load_named("radiography", lay({**files, "COVID.metadata.xlsx": "no archive"}, "damaged"))


@pytest.mark.real
def test_real_names_of_the_covid_cxnet_collection_are_read_by_their_numbers(real_data, tmp_path):
    known = pd.read_csv(real_data / "classification" / "metadata.csv", dtype=str).query("source == 'armiro'")
    (tmp_path / "chest_xray_images" / "covid19").mkdir(parents=True)
    for original, path in zip(known["original"], known["path"], strict=True):
        (tmp_path / "chest_xray_images" / "covid19" / original).symlink_to(real_data / path)
    (tmp_path / "metadata.csv").write_text("filename,patient_id,sex,age,view,label,pcr_test,survival,location\n")
    dataset = load_named("covidcxnet", tmp_path)
    assert len(dataset) == len(known) == 382 and all(path.is_file() for path in dataset.paths)
    names, plain = dataset.table["path"].str.rpartition("/")[2], known["original"].str.rpartition(".")[0]
    assert set(names[dataset.table["abnormality"] == "none"]) == set(known["original"][plain.str.contains("-")])
    assert set(names[dataset.table["population"] == "child"]) == set(known["original"][plain.str.contains("p")])
