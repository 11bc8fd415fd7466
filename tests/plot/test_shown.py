import torch

import linegraph as lg


def test_axes_are_pictures_to_a_notebook():
    ax = lg.plot.singular_values(torch.tensor([3.0, 1.0]))
    assert ax._repr_png_() == ax.figure._repr_png_()
    assert ax._repr_png_().startswith(b"\x89PNG")
