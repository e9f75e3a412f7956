"""Two lungs stay, specks and holes go, nothing raises."""

import numpy as np

from segmentation.postprocessing import clean_map, clean_mask, component_areas

LUNGS = np.zeros((60, 60), bool)
LUNGS[10:50, 5:25], LUNGS[10:50, 35:55] = True, True


def test_only_the_two_largest_components_stay_and_a_speck_never_stands_for_the_second_lung():
    dirty = LUNGS.copy()
    dirty[55:60, 0:8] = True
    np.testing.assert_array_equal(clean_mask(dirty), LUNGS)
    assert list(component_areas(dirty)) == [800, 800, 40]
    single = LUNGS.copy()
    single[:, 30:] = False
    speck = single.copy()
    speck[2:4, 50:52] = True
    np.testing.assert_array_equal(clean_mask(speck), single)


def test_holes_are_filled_but_not_bays_nor_holes_at_the_edge_of_the_image():
    mask = LUNGS.copy()
    mask[20:25, 10:15] = False
    np.testing.assert_array_equal(clean_mask(mask), LUNGS)
    mask[20:25, 0:15] = False
    assert not clean_mask(mask)[22, 10]
    assert not clean_mask(mask, fill_holes=False)[22, 12]
    edge = np.ones((8, 8), bool)
    edge[0, 3] = False
    assert not clean_mask(edge)[0, 3]


def test_an_empty_mask_stays_empty():
    assert not any(clean_map(np.full((10, 10), value, np.float32)).any() for value in (0.0, 0.49))
    assert not clean_mask(np.zeros((5, 5), bool)).any()
    assert component_areas(np.zeros((5, 5), bool)).size == 0


def test_the_cleaned_map_cut_at_the_threshold_is_the_cleaned_mask_and_stays_soft_at_the_outline():
    generator = np.random.default_rng(0)
    for threshold in (0.3, 0.5, 0.8):
        soft = np.clip(0.75 * LUNGS + generator.normal(0.1, 0.15, (60, 60)), 0, 1).astype(np.float32)
        cleaned = clean_map(soft, threshold)
        np.testing.assert_array_equal(cleaned >= threshold, clean_mask(soft >= threshold))
    soft = np.where(LUNGS, 0.9, 0.0).astype(np.float32)
    soft[10:50, 25] = 0.3
    assert clean_map(soft)[30, 25] == np.float32(0.3)
