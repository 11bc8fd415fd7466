"""A small head in place of the classifier of a pre-trained model, for its capacitance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from linegraph.arguments import check_module, check_number_of, check_type
from linegraph.errors import DataError
from linegraph.selection.classifiers import Found, classified, find_classifier, num_features_of
from linegraph.selection.features import arguments_of, pooled

__all__ = ["CapacitanceProbe"]


class CapacitanceProbe(nn.Module):
    """A pre-trained model whose classifier is replaced by a perceptron to be trained.

    Probes with heads of equal size make pre-trained models of different sizes comparable. With a frozen backbone, only
    the weights of the head are synapses, so P, its capacitance and a training step cost little more than a forward pass
    of the backbone. With a backbone that is fine-tuned, as in the founding papers, its weights are synapses too.

    Args:
        backbone: any module. It is used as it is, not copied: a frozen backbone loses ``requires_grad`` of its
            parameters and always runs in evaluation mode; pass ``copy.deepcopy(model)`` to keep a model unchanged. No
            layer is removed or exchanged: the classifier stays in the backbone, frozen, and the head reads what enters
            it.
        num_features: number F of features, if the backbone itself returns them. None: the classifier of the backbone
            is found, and the features are what enters it, see below.
        num_classes: number of classes, the number of scores per sample.
        hidden: widths of the hidden layers, each followed by a ReLU. With softmax and cross entropy, the signed β_eff
            is 0/0 with one hidden layer and 0 with two; with three it is defined for all kinds.
        frozen: if True, the head alone is trained. If False, the backbone is trained too, except for its classifier and
            for parameters without ``requires_grad``, and takes the mode of the probe.
        classifier: name of the layer or part of the backbone whose inputs are the features, such as ``"fc"``.

    **Classifier.** It is found from the modules of the backbone, without data: in models of timm by
    ``get_classifier()``; in models of Hugging Face it is the last linear layer outside the ``base_model``, and an
    ``AutoModel`` returns ``hidden_size`` (or the last of ``hidden_sizes``) features and has none; in other models, such
    as those of torchvision, it is the layer with a matrix of weights that was registered last, which must be linear and
    must not contradict the usual names (``fc``, ``classifier``, ``head``, ``heads``, ...). Every forward pass confirms
    that the backbone returns the outputs of this layer, as they are or after a softmax, log-softmax or sigmoid. The
    last linear layer of a body without a classifier cannot be distinguished from one; pass ``num_features`` for it. The
    attribute ``classifier`` is the name of the layer, or None.

    **Features.** The backbone, or the input of its classifier, may be features (N, F); maps (N, F, H, W), which are
    averaged over positions; sequences (N, T, F), packed and nested ones too, which are averaged over tokens; or the
    output of a Hugging Face model (or a similar mapping), from which ``pooler_output`` is taken, or
    ``last_hidden_state`` if there is none. If a backbone classifies every token and returns the scores of one, as
    GPT-2 does for the last one, the features are those of this token.

    Padding is left out of the average over tokens, so the features of a text do not depend on the other texts of its
    batch. Tokens are marked by ``attention_mask`` (N, T), 1 at tokens and 0 at padding, passed to the backbone by name
    or position; for the states of a decoder by ``decoder_attention_mask``; by ``src_key_padding_mask`` of torch's
    encoders, True at padding; or by ``lengths`` (N,). Without any of these all T positions are tokens. Features that
    the backbone has pooled itself are taken as they are. Models with absolute positions, such as GPT-2, need
    ``position_ids`` for texts padded on the left.

    Raises:
        DataError: if ``num_classes`` is missing, or if no classifier is found, or more than one. In the forward pass,
            if the backbone does not return the outputs of the classifier found, the features have another shape, a text
            has no token, or a mask has values other than 0 and 1 or another length than the sequence.

    Source: C. Jiang et al., Nature Communications 15 (2024), for the neural capacitance probe.

    Example:
        >>> import torch, linegraph as lg
        >>> body = torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        >>> probe = lg.CapacitanceProbe(torch.nn.Sequential(*body, torch.nn.Linear(8, 1000)), num_classes=10)
        >>> probe.classifier, probe.num_features
        ('4', 8)
        >>> data = torch.randn(4, 3, 6, 6), torch.tensor([3, 1, 4, 1])
        >>> P = lg.NeuralCoupling(probe, torch.nn.functional.cross_entropy, data, kind="magnitude")
        >>> [s.name for s in P.synapses]
        ['head.0.weight', 'head.2.weight', 'head.4.weight', 'head.6.weight']
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_features: int | None = None,
        num_classes: int | None = None,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        frozen: bool = True,
        classifier: str | None = None,
    ) -> None:
        check_module(backbone, "backbone")
        if num_classes is None:
            raise DataError("num_classes is missing; pass the number of classes of the task, such as num_classes=10")
        check_number_of("num_classes", num_classes)
        check_type("hidden", hidden, Iterable, "a list of widths, such as (256, 128, 64)")
        hidden = tuple(hidden)
        for width in hidden:
            check_number_of("each width of hidden", width)
        check_type("frozen", frozen, bool, "True or False")
        check_type("classifier", classifier, (str, type(None)), "the name of a layer of the backbone, or None")
        found = _found(backbone, num_features, classifier)
        super().__init__()
        self.frozen = frozen
        self.classifier, self.num_features = found
        self._is_given = classifier is not None
        self.backbone = backbone
        if frozen:
            backbone.requires_grad_(False)
        elif found.name is not None:
            _freeze(backbone, found.name)
        widths = (found.num_features, *hidden)
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
        self.train(self.training)

    def train(self, mode: bool = True) -> CapacitanceProbe:
        """Set the mode of the head, and of the backbone unless it is frozen: then it stays in evaluation mode.

        Args:
            mode: True for training mode, False for evaluation mode.

        Returns:
            This probe.
        """
        super().train(mode)
        if self.frozen:
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
        scores: Tensor = self.head(self.features(*inputs, **named_inputs))
        return scores

    def features(self, *inputs: Any, **named_inputs: Any) -> Tensor:
        """The features that the head reads.

        Args:
            inputs: the positional arguments of the backbone.
            named_inputs: its keyword arguments.

        Returns:
            Features (N, F).

        Raises:
            DataError: see the class.
        """
        if self.classifier is not None:
            return self._classified(inputs, named_inputs)[0]
        output = self.backbone(*inputs, **named_inputs)
        return pooled(output, self.num_features, arguments_of(self.backbone, inputs, named_inputs))

    def source_scores(self, *inputs: Any, **named_inputs: Any) -> Tensor:
        """The scores of the classes on which the backbone was pre-trained: the outputs of its own classifier.

        Args:
            inputs: the positional arguments of the backbone.
            named_inputs: its keyword arguments.

        Returns:
            Scores (N, source classes), before any softmax.

        Raises:
            DataError: if the backbone has no classifier, or ``num_features`` was given, so that none was looked for.
        """
        if self.classifier is None:
            raise DataError(
                "the probe knows no classifier of its backbone, so there are no scores of source classes; pass a "
                "backbone with its classifier, without num_features=, or name it by classifier="
            )
        return self._classified(inputs, named_inputs)[1]

    def _classified(self, inputs: tuple[Any, ...], named_inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        found = Found(self.classifier, self.num_features)
        return classified(self.backbone, found, inputs, named_inputs, confirm=not self._is_given)


def _found(backbone: nn.Module, num_features: Any, classifier: str | None) -> Found:
    """The classifier and the number of features, as they are given, else as they are found."""
    if num_features is not None:
        check_number_of("num_features", num_features)
    if classifier is None:
        return find_classifier(backbone) if num_features is None else Found(None, int(num_features))
    found = Found(classifier, num_features_of(backbone, classifier))
    if num_features not in (None, found.num_features):
        raise DataError(
            f"{found.num_features} features enter the layer {classifier!r}, not num_features={num_features}; pass one "
            "of the two arguments"
        )
    return found


def _freeze(backbone: nn.Module, name: str) -> None:
    """Freeze the parameters of the classifier, except those tied to other layers of the backbone."""
    classifier = backbone.get_submodule(name)
    own = set(map(id, classifier.modules()))
    others = {id(p) for part in backbone.modules() if id(part) not in own for p in part.parameters(recurse=False)}
    for parameter in classifier.parameters():
        if id(parameter) not in others:
            parameter.requires_grad_(False)
