"""Released weights by name, and the weights-file format.

`manifest.json` lists files of this package and public files that are downloaded once and verified; each of our own
files has a card beside it (`NAME.md`). Names load on first use: ``import weights`` needs neither Keras nor h5py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "format": ["WeightsFile", "load_weights", "open_weights", "read_metadata", "save_weights"],
        "lookup": ["is_name", "locate", "names", "released"],
        "manifest": ["FOLDER", "WeightsError"],
    },
)
