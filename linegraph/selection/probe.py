"""A small network on frozen features, on which the capacitance of a pre-trained model is measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from linegraph.selection.features import arguments_of, features

__all__ = ["CapacitanceProbe"]


class CapacitanceProbe(nn.Module):
    """A pre-trained model without its own head, frozen, under a perceptron that is trained.

    Pre-trained models of any size are compared by probes of one size: only the weights of the head are synapses, so
    that P, its capacitance and a step of training cost little more than a forward pass of the backbone.

    Args:
        backbone: any module. Its parameters are frozen, in place, and it always acts in evaluation mode.
        num_features: F, how many features it has.
        num_classes: how many scores come out.
        hidden: widths of the hidden layers, with ReLU after each. Signed β_eff of a softmax is 0/0 with one and 0 with
            two of them; three are enough for all kinds.

    The backbone may return features (N, F), maps (N, F, H, W), which are averaged over places, sequences (N, T, F),
    averaged over tokens, packed or nested sequences, or an output of a Hugging Face model (or a mapping like one), of
    which ``pooler_output`` is taken where there is one, else ``last_hidden_state``.

    Of texts padded to one length, tokens alone are averaged, so that the features of a text do not depend on the others
    of its batch: those at which ``attention_mask`` (N, T) is 1, passed to the backbone by name or place; of a decoder's
    states, ``decoder_attention_mask``. ``src_key_padding_mask`` of torch's encoders, True at padding, and ``lengths``
    (N,) are read as well. Without any of them all T are tokens. What a backbone pools itself is taken as it is. Texts
    padded on the left need ``position_ids`` where positions are absolute, as in GPT-2: the states depend on them.

    Raises:
        DataError: from a pass, if the features have another shape, a text has no token, or what is padding cannot be
            told, as from a mask of other numbers than 0 and 1, or of another length than the sequence.

    Source: C. Jiang et al., Nature Communications 15 (2024), the neural capacitance probe.

    Example:
        >>> import torch, linegraph as lg
        >>> backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> probe = lg.CapacitanceProbe(backbone, num_features=8, num_classes=10)
        >>> data = torch.randn(4, 3, 6, 6), torch.tensor([3, 1, 4, 1])
        >>> P = lg.NeuralCoupling(probe, torch.nn.functional.cross_entropy, data, kind="magnitude")
        >>> [s.name for s in P.synapses]
        ['head.0.weight', 'head.2.weight', 'head.4.weight', 'head.6.weight']
    """

    def __init__(
        self, backbone: nn.Module, num_features: int, num_classes: int, *, hidden: Sequence[int] = (256, 128, 64)
    ) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.num_features = num_features
        layers = [layer for a, b in pairwise((num_features, *hidden)) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.head = nn.Sequential(*layers, nn.Linear((num_features, *hidden)[-1], num_classes))

    def train(self, mode: bool = True) -> CapacitanceProbe:
        """Put the head in training mode, or the whole in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, *inputs: Any, **named_inputs: Any) -> Tensor:
        """Scores (N, classes)."""
        found = self.backbone(*inputs, **named_inputs)
        arguments = arguments_of(self.backbone, inputs, named_inputs)
        scores: Tensor = self.head(features(found, self.num_features, arguments))
        return scores
