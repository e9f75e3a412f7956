"""What each figure of the report means, in one sentence each."""

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("95% interval",
     "Where the figure falls in 95 of 100 repetitions with other patients of the same kind: patients are drawn with "
     "replacement, each with all of their images (percentile bootstrap). It says nothing about other hospitals. A "
     "proportion of exactly 0% or 100% gets an interval without width; with n patients the truth may still lie about "
     "3/n away."),
    ("Sensitivity (recall)", "Of the images of a class, the share that was called so."),
    ("Specificity", "Of the images of all other classes, the share that was not called so."),
    ("Precision (positive predictive value)",
     "Of the images called a class, the share that was of it. It depends on how common the class is in these images, "
     "which is seldom how common it is in a clinic."),
    ("NPV", "Negative predictive value: of the images not called a class, the share that was not of it."),
    ("F1", "Harmonic mean of precision and sensitivity."),
    ("Accuracy", "Share of images called rightly. High by itself where one class is common."),
    ("Balanced accuracy", "Mean of the sensitivities of all classes; guessing scores 1 / number of classes."),
    ("AUROC",
     "Area under the ROC curve: the chance that an image of the class gets a higher probability than one of another "
     "class. 0.5 is guessing, 1 perfect. With more than two classes: each against the rest, then the mean."),
    ("AUROC within sources", "The same, comparing only images from one and the same source."),
    ("Average precision",
     "Area under the precision-recall curve; guessing scores the share of the class among these images."),
    ("Brier score",
     "Mean squared distance between probabilities and truth; 0 is perfect. Two classes: always saying 50% scores "
     "0.25. More classes: summed over classes, 2 is worst."),
    ("Expected calibration error (ECE)",
     "Mean distance between stated probability and observed share over ten bins of probability, weighted by images. "
     "Two classes: of the second class; more: of the called class. Resampling adds noise to each bin, so with few "
     "images its interval leans upwards."),
    ("Calibration slope",
     "Slope of a logistic regression of the truth on the logit of the stated probability, of the same class as the "
     "ECE. 1 is right; below 1 probabilities are too extreme, above 1 too timid; below 0 they point the wrong way."),
    ("Internal, held out, within a source",
     "Images of the sources that training saw, of other patients; images of sources that it never saw; images of one "
     "and the same source. Which sources training saw comes from the run, or from the lists given by --seen."),
    ("Simple statistics alone",
     "AUROC of a linear probe that knows only border, grey levels, sharpness and corners of the network's own input, "
     "learnt on the other patients of these images. What it reaches, a network can reach without seeing the disease; "
     "part of it may be the disease."),
    ("Grad-CAM", "Where the last feature maps of the network raise the score of the called class; coarse by nature."),
    ("LIME", "Which patches, when hidden, lower the score of the called class; a random method, seeded here."),
    ("Phantom", "A computed picture that resembles a radiograph and shows no patient."),
)  # fmt: skip
