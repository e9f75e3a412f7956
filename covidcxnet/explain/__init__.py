"""Explanations: where in a radiograph a classifier finds its evidence (CAM, Grad-CAM, LIME).

`cam` and `lime` give maps in the frame of the stack, `overlay` draws them on the radiograph. Nothing is imported here.
"""
