"""Explanations: where in a radiograph a classifier finds its evidence (CAM, Grad-CAM, LIME), drawn and scored.

`cam` and `lime` give maps in the frame of the stack, `overlay` draws them on the radiograph, `score` asks whether they
point at the truth. Nothing is imported here.
"""
