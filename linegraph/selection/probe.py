"""A small trainable head on a frozen pre-trained model, for its capacitance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from linegraph.arguments import check_module, check_number_of, check_type
from linegraph.selection.features import arguments_of, features

__all__ = ["CapacitanceProbe"]


class CapacitanceProbe(nn.Module):
    """A frozen pre-trained model without its own head, followed by a perceptron to be trained.

    Probes with heads of equal size make pre-trained models of different sizes comparable. Only the weights of the head
    are synapses, so P, its capacitance and a training step cost little more than a forward pass of the backbone.

    Args:
        backbone: any module. Its parameters are frozen in place, and it always runs in evaluation mode.
        num_features: number F of features that the backbone returns.
        num_classes: number of classes, the number of scores per sample.
        hidden: widths of the hidden layers, each followed by a ReLU. With softmax and cross entropy, the signed β_eff
            is 0/0 with one hidden layer and 0 with two; with three it is defined for all kinds.

    The backbone may return features (N, F); maps (N, F, H, W), which are averaged over positions; sequences (N, T, F),
    packed and nested ones too, which are averaged over tokens; or the output of a Hugging Face model (or a similar
    mapping), from which ``pooler_output`` is taken, or ``last_hidden_state`` if there is none.

    Padding is left out of the average over tokens, so the features of a text do not depend on the other texts of its
    batch. Tokens are marked by ``attention_mask`` (N, T), 1 at tokens and 0 at padding, passed to the backbone by name
    or position; for the states of a decoder by ``decoder_attention_mask``; by ``src_key_padding_mask`` of torch's
    encoders, True at padding; or by ``lengths`` (N,). Without any of these all T positions are tokens. Features that
    the backbone has pooled itself are taken as they are. Models with absolute positions, such as GPT-2, need
    ``position_ids`` for texts padded on the left.

    Raises:
        DataError: in the forward pass, if the features have another shape, a text has no token, or a mask has values
            other than 0 and 1 or another length than the sequence.

    Source: C. Jiang et al., Nature Communications 15 (2024), for the neural capacitance probe.

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
        check_module(backbone, "backbone")
        check_number_of("num_features", num_features)
        check_number_of("num_classes", num_classes)
        check_type("hidden", hidden, Iterable, "a list of widths, such as (256, 128, 64)")
        hidden = tuple(hidden)
        for width in hidden:
            check_number_of("each width of hidden", width)
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.num_features = num_features
        layers = [layer for a, b in pairwise((num_features, *hidden)) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.head = nn.Sequential(*layers, nn.Linear((num_features, *hidden)[-1], num_classes))

    def train(self, mode: bool = True) -> CapacitanceProbe:
        """Set the mode of the head; the backbone stays in evaluation mode.

        Args:
            mode: True for training mode, False for evaluation mode.

        Returns:
            This probe.
        """
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, *inputs: Any, **named_inputs: Any) -> Tensor:
        """The scores of the classes.

        Args:
            inputs: the positional arguments of the backbone.
            named_inputs: its keyword arguments.

        Returns:
            Scores (N, num_classes), not normalised.

        Raises:
            DataError: see the class.
        """
        found = self.backbone(*inputs, **named_inputs)
        arguments = arguments_of(self.backbone, inputs, named_inputs)
        scores: Tensor = self.head(features(found, self.num_features, arguments))
        return scores
