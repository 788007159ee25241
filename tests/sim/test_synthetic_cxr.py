"""The SYNTHETIC chest pictures: labelled so, the same for the same seed, and neither trivial nor hopeless."""

import numpy as np
import pytest

from fl_kit.errors import DataError
from sim import samples


def test_shapes_classes_and_the_same_twice():
    sample = samples.synthetic_cxr(200, prevalence=0.3, seed=2)
    assert (sample.images.shape, sample.images.dtype, sample.labels.dtype) == ((200, 28, 28), np.uint8, np.uint8)
    assert int(sample.labels.sum()) == 60
    assert (sample.images == samples.synthetic_cxr(200, prevalence=0.3, seed=2).images).all()
    assert not (sample.images == samples.synthetic_cxr(200, prevalence=0.3, seed=3).images).all()
    assert len({image.tobytes() for image in sample.images}) == 200


def test_synthetic_stands_where_it_shows():
    sample = samples.synthetic_cxr(10)
    assert sample.name == "synthetic_cxr"
    assert repr(sample).count("SYNTHETIC") == 2
    assert "X-ray" not in sample.manifest["title"]


def test_brightness_alone_does_not_give_the_class_away():
    """A shadow is light, so the mean grey level says something, and far from all: AUC of it between 0.5 and 0.75."""
    sample = samples.synthetic_cxr(2000, seed=1)
    level = sample.images.reshape(2000, -1).mean(1)
    ill, well = level[sample.labels == 1], level[sample.labels == 0]
    assert 0.5 < (ill[:, None] > well[None]).mean() < 0.75
    center = sample.images[:, 10:18, 4:10].mean((1, 2)), sample.images[:, 10:18, 0:2].mean((1, 2))
    assert center[0].mean() < 110  # a lung is dark
    assert sample.images[:, :, 13:15].mean() > 1.3 * center[0].mean()  # a spine is light


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"rows": 1}, "rows must be a whole number from 2"),
        ({"rows": 9.5}, "rows must be a whole number from 2"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"prevalence": 1.0}, "prevalence must lie between 0 and 1"),
    ],
)
def test_arguments_that_make_no_sense(arguments, why):
    with pytest.raises(DataError, match=why):
        samples.synthetic_cxr(**arguments)
