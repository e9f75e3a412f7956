"""A radiograph as pixels: read it from any common file, enhance it (BEASF above all), never with Keras.

Enhancements take a path, a PIL image or an array, a glob pattern or a batch ``[N, H, W]``, give ``uint8 [H, W]`` each
and leave their input as it was. Names load on first use, so that ``import enhancement`` costs next to nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bihistogram": ["beasf"],
        "channels": ["CHANNELS", "stack"],
        "errors": ["InputError", "RadiographError"],
        "files": ["IMAGE_SUFFIXES", "find_images", "whole_file"],
        "filters": ["adaptive_equalize", "clahe", "equalize", "gaussian_blur"],
        "matching": ["match_histogram"],
        "radiograph": ["read_radiograph"],
        "text": ["conceal_text", "find_text"],
    },
)
