"""Explanations: where in a radiograph a classifier finds its evidence (CAM, Grad-CAM, LIME), drawn and scored.

`cam`, `gradcam` and `lime` give maps in the frame of the stack, `overlay` draws them on the radiograph that the person
knows, `score` asks whether they point at the truth. Import the module that is needed; this one imports none of them.
"""
