"""The neuron graph of a network: its nodes are neurons, its edges weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader
from torch.utils.weak import WeakIdKeyDictionary

from linegraph.arguments import check_limit
from linegraph.coupling.base import MAX_EDGES
from linegraph.coupling.model.data import call_model, check_devices, is_empty, tensors_in
from linegraph.coupling.model.parameters import Choice, Include, choose, unwrapped
from linegraph.coupling.model.plain_forward import in_the_open, remembering_nothing
from linegraph.coupling.model.preserve import differentiable, preserved
from linegraph.coupling.model.shards import refuse_shards
from linegraph.coupling.operations import Bound
from linegraph.coupling.operations import names as ops
from linegraph.coupling.structure.connectivity import ConnectivityMode
from linegraph.coupling.structure.neurons import View
from linegraph.coupling.tracing.weights import Weight
from linegraph.errors import DataError, NoSynapseError, TooLargeError
from linegraph.pyg import new_data
from linegraph.turns import turn

if TYPE_CHECKING:
    from torch_geometric.data import Data

__all__ = ["neuron_graph"]

NODE_KINDS = ["input", "neuron", "junction"]


def neuron_graph(model: nn.Module, inputs: Any, *, include: Include = None, max_edges: int = MAX_EDGES) -> Data:
    """The neurons of a network, features or channels, joined by its weights in the direction of the signal.

    Every weight w of a synapse tensor is an edge j → i, in the order of the nodes of ``NeuralCoupling(model, ...)``:
    edge number e is node number e of the line graph (unless a weight enters in two ways, as tied weights do).
    An input of a layer that depends on a single neuron, through activations, pooling or flattening, is identified with
    that neuron. The taps of a kernel, and the positions that a dense layer reads from a channel, are therefore parallel
    edges. An input that depends on several neurons (sums of residual branches, attention, layer norm) is a *junction*,
    a node of its own, with edges of weight 1 from these neurons.

    Args:
        model: any module that :class:`~linegraph.NeuralCoupling` takes.
        inputs: one batch without targets, a tensor, or a tuple or dict of tensors that is passed on to the model;
            activations are averaged over it.
        include: which weights are edges; by default all trainable ones of two or more dimensions, except those for
            whose operation there is no rule, of which a :class:`~linegraph.errors.CoverageWarning` tells.
        max_edges: largest number of edges to form.

    Returns:
        Data with ``edge_index`` (2, E), ``edge_weight`` (E,), and ``edge_synapse`` (E,), the number of the weight of
        each edge (−1 for edges into junctions). For the n nodes, each (n,): ``layer``, the number of the synapse tensor
        whose output it is (−1 for inputs and junctions); ``neuron``, its number in that layer; ``kind``, an index into
        ``kind_names``; ``activation``, the mean over samples and positions of its value as the next layers read it, or
        of its own output if no layer reads it; and ``x`` (n, 1), the activation as a column. Lists with one entry per
        layer: ``layer_names``; ``module_names``, the module that owns the weight; ``activation_functions``, the first
        activation function after the layer ("identity" if there is none).

    Cost: one forward pass, and 24 bytes per edge. The model is restored afterwards.

    Raises:
        ArgumentTypeError: if ``model`` is not a module.
        DataError: if the inputs have no tensor, have no sample, or are on another device than the model.
        NoSynapseError: if no operation of this pass uses a chosen weight.
        TooLargeError: if there are more than ``max_edges`` edges; names both numbers.
        UnsupportedOperationError: if the parameters are sharded over processes.

    Source: D. Lim, H. Maron, M. T. Law, J. Lorraine, J. Lucas, Graph metanetworks for processing diverse neural
    architectures, ICLR 2024, for channels as nodes and the taps of a kernel as parallel edges.

    Example:
        >>> import torch, linegraph as lg
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        >>> data = lg.neuron_graph(model, torch.randn(8, 4))
        >>> data.num_nodes, data.num_edges, data.activation_functions, data.edge_index[:, 12].tolist()
        (9, 18, ['tanh', 'identity'], [4, 7])
    """
    check_limit("max_edges", max_edges)
    model = unwrapped(model)
    refuse_shards(model)
    with turn():
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        choice = choose(model, include)
    chosen = choice.weights
    if isinstance(inputs, DataLoader):
        raise DataError("inputs are one batch, a tensor, or a tuple or dict of tensors, not a loader of many")
    check_devices(inputs, chosen)
    if not tensors_in(inputs):
        raise DataError("inputs must be a tensor, or a tuple or dict of tensors; there is no tensor in them")
    if is_empty(inputs):
        raise DataError("the inputs have no sample; activations and connections are read from at least one")
    recorder = _recorded(model, inputs, choice)
    while recorder.left_out:
        choice.leave_out(recorder.left_out)
        recorder = _recorded(model, inputs, choice)
    choice.warn(trainable)
    if not recorder.views:
        raise NoSynapseError("no operation of this pass uses any of the chosen weights")
    return _Nodes(recorder, chosen).graph(max_edges)


def _recorded(model: nn.Module, inputs: Any, choice: Choice) -> _Recorder:
    """A recorder of the connections of one pass."""
    recorder = _Recorder(choice.weights)
    recorder.left_out = {} if choice.is_open else None
    following = differentiable(model.parameters(), {id(p) for p in choice.weights.values()})
    stage = preserved(model, training=False)
    with stage as unwritten, in_the_open(model), following, remembering_nothing(), recorder, unwritten:
        call_model(model, inputs)
    return recorder


class _Recorder(ConnectivityMode):
    """Records the mean input and output of every layer, besides the provenance that its base class follows."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__(weights)
        self.views: list[View] = []
        self.read: list[Tensor] = []
        """The first tensor that each view reads."""
        self.entering: list[list[Tensor]] = []
        self.leaving: list[list[Tensor]] = []
        self.functions: dict[int, str] = {}
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._producers: Any = WeakIdKeyDictionary()

    def on_synapse(self, bound: Bound, weight: Weight) -> Tensor:
        y = super().on_synapse(bound, weight)
        key = (weight.name, weight.view, bound.rule.op)
        number = self._numbers.setdefault(key, len(self.views))
        if number == len(self.views):
            self.views.append(self._view_of(bound.rule, weight))
            self.read.append(bound.x)
            self.entering.append([])
            self.leaving.append([])
        with torch.no_grad():
            self.entering[number].append(_entering(bound, len(self.views[number].leaving())))
            self.leaving[number].append(_means(y, bound.rule.output_dim))
        self._producers[y] = {number}
        return y

    def on_path(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        layers = set().union(*(self._producers.get(a, ()) for a in tensors))
        is_activation = ops.name_of(function) in ops.ACTIVATIONS
        if is_activation:
            for layer in layers:
                self.functions.setdefault(layer, ops.name_of(function))
        result = super().on_path(function, args, kwargs)
        if layers and not is_activation:
            for part in tree_leaves(result):
                if isinstance(part, Tensor):
                    self._producers[part] = layers
        return result


class _Nodes:
    """Numbers the nodes: inputs and outputs of the layers."""

    def __init__(self, recorder: _Recorder, chosen: Mapping[str, Tensor]) -> None:
        self.recorder, self.chosen = recorder, chosen
        structure = recorder.structure()
        names = list(dict.fromkeys(name for name in chosen if any(v.weight.name == name for v in structure.views)))
        self.names = names
        self.kind: list[int] = []
        self.layer: list[int] = []
        self.neuron: list[int] = []
        self.paths: list[tuple[int, int]] = []
        self.inputs: list[np.ndarray] = []
        self.outputs: list[np.ndarray] = []
        known: dict[tuple[int, int], int] = {}
        of_output = np.full(structure.num_outputs, -1)
        for view, reach, read in zip(recorder.views, structure.reach, recorder.read, strict=True):
            # The inputs of a layer are numbered before its outputs, so that numbers increase along the signal.
            labels = reach.labels.reshape(-1).long().tolist()
            found = []
            for i, label in enumerate(labels):
                sources = reach.sources.indices[reach.sources.indptr[label] : reach.sources.indptr[label + 1]]
                found.append((i, np.sort(sources)))
            self.inputs.append(np.array([self._input(id(read), i, s, known, of_output) for i, s in found], np.int64))
            size = len(view.entering())
            first = len(self.kind)
            of_output[view.first_output : view.first_output + size] = range(first, first + size)
            self.outputs.append(np.arange(first, first + size))
            self.kind += [1] * size
            self.layer += [names.index(view.weight.name)] * size
            self.neuron += range(size)
        self.paths = [(int(of_output[o]), node) for o, node in self.paths]

    def _input(self, read: int, i: int, sources: np.ndarray, known: dict[tuple[int, int], int], of: np.ndarray) -> int:
        """The node that a layer reads as its input neuron i."""
        if len(sources) == 1 and of[sources[0]] >= 0:
            return int(of[sources[0]])
        if (read, i) not in known:
            known[read, i] = len(self.kind)
            self.paths += [(o, len(self.kind)) for o in sources.tolist()]
            self.kind.append(2 if len(sources) else 0)
            self.layer.append(-1)
            self.neuron.append(i)
        return known[read, i]

    def graph(self, max_edges: int) -> Data:
        views, count = self.recorder.views, len(self.paths)
        order = sorted(range(len(views)), key=lambda v: self.names.index(views[v].weight.name))
        total = count + sum(view.weight.value.numel() for view in views)
        if total > max_edges:
            raise TooLargeError(
                f"this neuron graph has {total:,} edges, more than max_edges={max_edges:,}; raise the limit if memory "
                "allows (about 24 bytes an edge), or choose fewer weights with include="
            )
        offsets = np.cumsum([0, *(self.chosen[name].numel() for name in self.names)])
        ends, weights, synapses = [], [], []
        for v in order:
            index, into, out = views[v].neurons()
            ends.append(np.stack([self.inputs[v][into], self.outputs[v][out]]))
            weights.append(views[v].weight.rearranged(views[v].weight.parameter.detach()).flatten())
            synapses.append(index + offsets[self.names.index(views[v].weight.name)])
        device, dtype = weights[0].device, weights[0].dtype
        ends.append(np.array(self.paths, dtype=np.int64).reshape(-1, 2).T)
        weights.append(torch.ones(count, device=device, dtype=dtype))
        synapses.append(np.full(count, -1))
        activation = self._activation().to(device)
        functions = {self.names.index(views[v].weight.name): f for v, f in reversed(self.recorder.functions.items())}
        return new_data(
            edge_index=torch.from_numpy(np.concatenate(ends, 1)).to(device),
            edge_weight=torch.cat(weights),
            edge_synapse=torch.from_numpy(np.concatenate(synapses)).to(device),
            num_nodes=len(self.kind),
            layer=torch.tensor(self.layer, device=device),
            neuron=torch.tensor(self.neuron, device=device),
            kind=torch.tensor(self.kind, device=device),
            kind_names=NODE_KINDS,
            activation=activation,
            x=activation.unsqueeze(1),
            feature_names=["activation"],
            layer_names=self.names,
            module_names=[name.rpartition(".")[0] for name in self.names],
            activation_functions=[functions.get(i, "identity") for i in range(len(self.names))],
        )

    def _activation(self) -> Tensor:
        """The mean value of every node as layers read it; its mean output if no layer reads it."""
        n, recorder = len(self.kind), self.recorder
        found = torch.zeros(2, n, dtype=recorder.leaving[0][0].dtype, device="cpu")
        count = torch.zeros_like(found)
        for row, nodes, values in ((0, self.inputs, recorder.entering), (1, self.outputs, recorder.leaving)):
            for at, means in zip(nodes, values, strict=True):
                for mean in means:
                    found[row].index_add_(0, torch.from_numpy(at), mean)
                    count[row].index_add_(0, torch.from_numpy(at), torch.ones_like(mean))
        read, put_out = found / count.clamp(min=1)
        return torch.where(count[0] > 0, read, put_out)


def _entering(bound: Bound, count: int) -> Tensor:
    """The mean of every input neuron of a call."""
    if (selected := bound.rule.selected_inputs()) is not None:  # their inputs are one-hot vectors
        index = selected.flatten().cpu()
        return torch.bincount(index, minlength=count).to(bound.x.dtype) / index.numel()
    dim = bound.rule.input_dim
    if dim is None or bound.x.shape[dim] != count:  # a weight that is itself an activation has a constant as its input
        return bound.x.mean().cpu().expand(count)
    return _means(bound.x, dim)


def _means(values: Tensor, dim: int) -> Tensor:
    """The mean of the values at every index of one dimension."""
    return values.detach().movedim(dim, 0).flatten(1).mean(1).cpu() if values.ndim > 1 else values.detach().cpu()
