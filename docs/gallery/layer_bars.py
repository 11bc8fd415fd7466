"""
Layers side by side
===================

Test.
"""

import torch

import linegraph as lg

star = lg.GraphCoupling(torch.tensor([[1, 2, 3], [0, 0, 0]]))
lg.plot.strength_ccdf(lg.strength_distribution(star))
