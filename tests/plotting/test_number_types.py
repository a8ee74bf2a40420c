"""Pictures of integers, bool and half precision are those of the same numbers in double precision.

In their own arithmetic the least integer has no absolute value, and unsigned ones no difference.
"""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklexplain.plotting import (
    AnomalyDisplay,
    AttributionDisplay,
    ConceptDisplay,
    DictionaryDisplay,
    ImportanceDisplay,
    ReconstructionDisplay,
)

RNG = np.random.default_rng(0)
SHAPES = {"table": (5,), "series": (1, 12), "image": (4, 4)}
NUMBERS = {
    np.uint8: lambda shape: RNG.integers(0, 250, size=shape),
    np.int8: lambda shape: RNG.choice([-128, -3, 5, 100], size=shape),
    bool: lambda shape: RNG.integers(0, 2, size=shape),
    np.float16: lambda shape: RNG.integers(-9, 9, size=shape),
}
MAKE = {
    "attribution": lambda x, a, **params: AttributionDisplay(x, a, **params),
    "anomaly": lambda x, a, **params: AnomalyDisplay(x, a, **params),
    "importance": lambda x, a, **params: ImportanceDisplay(np.stack([a, a[::-1]]), **params),
    "concept": lambda x, a, **params: ConceptDisplay(x, a[None], a.ravel()[:1], **params),
    "dictionary": lambda x, a, **params: DictionaryDisplay(
        x[None, None], a.ravel()[:1, None], a[None, None], **params
    ),
    "reconstruction": lambda x, a, **params: ReconstructionDisplay(
        a[None], np.flip(a)[None], **params
    ),
}


def drawn(display):
    canvas = display.plot().figure_.canvas
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()).astype(int)
    plt.close("all")
    return pixels


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", MAKE)
def test_pictures_are_those_of_floats(name, kind):
    shape = SHAPES[kind]
    params = {"kind": kind, "channel_axis": 0 if kind == "series" else None}
    x = RNG.normal(size=shape)
    for dtype, draw in NUMBERS.items():
        values = draw(shape)
        expected = drawn(MAKE[name](x, values.astype(float), **params))
        found = drawn(MAKE[name](x, values.astype(dtype), **params))
        np.testing.assert_array_equal(found, expected, err_msg=str(dtype))


def test_texts_are_no_attributions():
    with pytest.raises(ValueError, match="attributions has dtype <U1; it must hold numbers"):
        AttributionDisplay(np.zeros(2), np.array(["a", "b"])).plot()
