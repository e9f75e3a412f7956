"""Published sets in small, used by several tests; files whose content is None hold a picture (see `lay`)."""

KERMANY = (
    "train/NORMAL/IM-0115-0001.jpeg",
    "train/PNEUMONIA/person1_bacteria_1.jpeg",
    "test/PNEUMONIA/person2_virus_6.jpeg",
)
NIH = "Image Index,Finding Labels,Patient ID\n00000001_000.png,No Finding,1\n00000002_000.png,Pneumonia|Mass,2\n"
NIH_SET = {"Data_Entry_2017.csv": NIH, "images/00000001_000.png": None}


def by_path(dataset):
    return dataset.table.set_index("path")
