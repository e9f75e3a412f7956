"""Histogram matching."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from enhancement import InputError, match_histogram

images = arrays(np.uint8, st.tuples(st.integers(1, 15), st.integers(1, 15)))


@settings(max_examples=100, deadline=None)
@given(images)
def test_an_image_matched_to_itself_is_unchanged(image):
    assert (match_histogram(image, image) == image).all()


@settings(max_examples=100, deadline=None)
@given(images, images)
def test_the_mapping_is_monotone_and_within_the_template(image, template):
    result = match_histogram(image, template)
    order = np.argsort(image, axis=None)
    assert (np.diff(result.ravel()[order].astype(int)) >= 0).all()
    assert template.min() <= result.min() and result.max() == template.max()


def test_the_histogram_becomes_the_templates():
    random = np.random.default_rng(0)
    image = random.normal(90, 20, (200, 200)).clip(0, 255).astype(np.uint8)
    template = random.normal(160, 35, (150, 250)).clip(0, 255).astype(np.uint8)
    result = match_histogram(image, template)
    for share in (10, 50, 90):
        assert abs(np.percentile(result, share) - np.percentile(template, share)) <= 2


def test_counts_serve_as_well_as_the_image_they_come_from():
    random = np.random.default_rng(1)
    image, template = random.integers(0, 256, (2, 30, 30), dtype=np.uint8)
    counts = np.bincount(template.ravel(), minlength=256)
    expected = match_histogram(image, template)
    assert (match_histogram(image, counts) == expected).all()
    assert (match_histogram(image, counts.tolist()) == expected).all()


@pytest.mark.parametrize(
    "template",
    [np.zeros((4, 4), np.float64), [1, 2, 3], np.zeros(256), np.full(256, -1), np.full(256, np.nan), "counts", None],
)
def test_other_templates_are_refused(template):
    with pytest.raises(InputError, match="template"):
        match_histogram(np.zeros((4, 4), np.uint8), template)
