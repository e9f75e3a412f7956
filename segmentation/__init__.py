"""Lungs of a frontal chest radiograph: the U-Net, its training, masks with a verdict, and regions of interest.

Names load on first use: ``import segmentation`` needs neither Keras nor OpenCV. The network itself is
`segmentation.model.unet`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "model": ["CONVENTIONS"],
        "regions": ["Frame", "box_of", "dilate", "frame_for", "keep_inside"],
        "segmenter": ["LungMask", "LungSegmenter"],
        "verdict": ["Limits", "Verdict"],
    },
)
