"""Evaluation: predictions in, figures with intervals out, as one HTML page, one JSON file and one CSV."""

import lazy_loader

# Names load on first use: scikit-learn is never needed, matplotlib and Keras only when a report is made.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bootstrap": ["Bootstrap", "Estimate"],
        "evaluator": ["evaluate"],
        "metrics": ["Metrics", "measure"],
        "predictions": ["Predictions"],
        "report": ["Report"],
    },
)
