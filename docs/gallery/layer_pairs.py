"""Which layers are coupled
========================

The sum of all couplings between two layers. Influence runs from the later layer, in the column, to the earlier one, in
the row. Skip connections couple layers that do not follow each other.
"""

import torch
import torch.nn.functional as F

import linegraph as lg
from linegraph.selection.candidates import digits_candidates

torch.manual_seed(0)
(images, digits), _ = lg.datasets.digits()
model = digits_candidates()["resnet-8"]()
P = lg.NeuralCoupling(model, F.cross_entropy, (images[:128], digits[:128]), kind="magnitude")

lg.plot.layer_pairs(lg.layer_pairs(P))
