"""Files in, model-ready stacks out, once: decode, find lungs, enhance, resize, keep in one HDF5 store."""

import lazy_loader

# Names load on first use: a worker process needs the pipeline only, and never Keras.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "build": ["prepare"],
        "batches": ["Batches"],
        "pipeline": ["Outcome", "Prepared", "prepare_files", "prepare_image"],
        "store": ["Store", "stack_statistics"],
    },
)
