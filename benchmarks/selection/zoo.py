"""The networks of the selection benchmark: some to be trained from scratch, and bodies to be pre-trained.

Each family has several sizes, and the ranges of the families overlap, so that size alone decides nothing. All take
images (N, 3, size, size). The random-graph perceptrons follow J. You et al., Graph structure of neural networks (ICML
2020): a layer of 16 blocks of neurons whose blocks are joined as the nodes of a graph; all have one number of weights.
"""

from functools import partial

import networkx as nx
import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU, "silu": nn.SiLU}


class Residual(nn.Module):
    """x plus what a body makes of it, through a projection where the shape changes."""

    def __init__(self, body, shortcut=None, after=None):
        super().__init__()
        self.body, self.shortcut, self.after = body, shortcut or nn.Identity(), after or nn.Identity()

    def forward(self, x):
        return self.after(self.shortcut(x) + self.body(x))


class Dense(nn.Module):
    """x and what a body makes of it, side by side."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return torch.cat([x, self.body(x)], 1)


class Tokens(nn.Module):
    """Patches of an image as tokens (N, T, width), with learnt positions or without."""

    def __init__(self, size, patch, width, *, positions=True):
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        count = (size // patch) ** 2
        self.positions = nn.Parameter(0.02 * torch.randn(1, count, width)) if positions else None

    def forward(self, x):
        tokens = self.embed(x).flatten(2).mT
        return tokens if self.positions is None else tokens + self.positions


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.mix, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.mix(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Transposed(nn.Module):
    """A body that mixes tokens instead of features."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x.mT).mT


class Mean(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return x.mean(self.dim)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of maps."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class Recurrent(nn.Module):
    """A recurrent network that reads the rows of an image, and its last state."""

    def __init__(self, kind, size, width, layers):
        super().__init__()
        self.rows = kind(3 * size, width, layers, batch_first=True)

    def forward(self, x):
        return self.rows(x.transpose(1, 2).flatten(2))[0][:, -1]


class Wired(nn.Linear):
    """A linear layer whose weights are 0 where the blocks of its neurons are not joined in a graph."""

    def __init__(self, graph, width):
        super().__init__(width, width)
        blocks = torch.as_tensor(nx.to_numpy_array(graph), dtype=torch.float32)
        blocks.fill_diagonal_(1)
        repeat = width // len(blocks)
        mask = blocks.repeat_interleave(repeat, 0).repeat_interleave(repeat, 1)
        self.register_buffer("mask", mask)
        with torch.no_grad():  # the variance of a layer with as many inputs as are joined
            self.weight.mul_(mask * (width / mask.sum(1, keepdim=True)).sqrt())

    def forward(self, x):
        return F.linear(x, self.weight * self.mask, self.bias)


# bodies: constructors of (module, number of features) -------------------------------------------------------------


def mlp(size, widths, activation="relu", norm=False, residual=False):
    layers, before = [nn.Flatten()], 3 * size * size
    for width in widths:
        layer = [nn.Linear(before, width), *([nn.BatchNorm1d(width)] if norm else []), ACTIVATIONS[activation]()]
        layers += [Residual(nn.Sequential(*layer))] if residual and before == width else layer
        before = width
    return nn.Sequential(*layers), before


def conv(before, after, kernel=3, *, norm, groups=1, stride=1, activation=nn.ReLU):
    layer = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=not norm)
    return [layer, *([nn.BatchNorm2d(after)] if norm else []), *([activation()] if activation else [])]


def cnn(size, channels, depth, norm=False, activation="relu"):
    """Convolutions, with the number of channels doubled after each pooling."""
    layers, before = [], 3
    for stage in range(depth):
        after = channels * 2 ** min(stage, 2)
        layers += conv(before, after, norm=norm, activation=ACTIVATIONS[activation])
        layers += [nn.MaxPool2d(2)] if stage < 2 else []
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten()), 4 * before


def vgg(size, channels, depth):
    """Two convolutions with batch norm a stage."""
    layers, before = [], 3
    for stage in range(depth):
        after = channels * 2**stage
        layers += [*conv(before, after, norm=True), *conv(after, after, norm=True)]
        layers += [nn.MaxPool2d(2)] if stage < 2 else []
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), before


def resnet(size, channels, blocks, norm=True):
    layers, before = conv(3, channels, norm=norm), channels
    for stage in range(2):
        after = channels * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            body = nn.Sequential(
                *conv(before, after, norm=norm, stride=stride), *conv(after, after, norm=norm, activation=None)
            )
            shortcut = None
            if stride > 1 or before != after:
                shortcut = nn.Sequential(*conv(before, after, 1, norm=norm, stride=stride, activation=None))
            layers.append(Residual(body, shortcut, nn.ReLU()))
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), before


def depthwise(size, channels, blocks, expand=2):
    """Inverted residuals, as in MobileNet."""
    layers, before = conv(3, channels, norm=True), channels
    for block in range(blocks):
        wide, down = expand * before, block == blocks // 2
        after = 2 * before if down else before
        body = nn.Sequential(
            *conv(before, wide, 1, norm=True),
            *conv(wide, wide, norm=True, groups=wide, stride=2 if down else 1),
            *conv(wide, after, 1, norm=True, activation=None),
        )
        layers.append(body if down else Residual(body))
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), before


def dense(size, growth, blocks):
    layers, before = conv(3, 2 * growth, norm=True), 2 * growth
    for block in range(2 * blocks):
        layers.append(Dense(nn.Sequential(*conv(before, growth, norm=True))))
        before += growth
        if block == blocks - 1:
            layers += [*conv(before, before // 2, 1, norm=True), nn.AvgPool2d(2)]
            before //= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), before


def convnext(size, width, blocks):
    layers = [nn.Conv2d(3, width, 2, 2), ChannelNorm(width)]
    for _ in range(blocks):
        mixing = nn.Conv2d(width, width, 5, padding=2, groups=width), ChannelNorm(width)
        wide = nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1)
        layers.append(Residual(nn.Sequential(*mixing, *wide)))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(width)), width


def mixer(size, width, blocks, patch=2):
    tokens = (size // patch) ** 2
    layers = [Tokens(size, patch, width, positions=False)]
    for _ in range(blocks):
        over = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        layers.append(Residual(nn.Sequential(nn.LayerNorm(width), Transposed(over))))
        layers.append(Residual(nn.Sequential(nn.LayerNorm(width), *wide_and_back(width))))
    return nn.Sequential(*layers, nn.LayerNorm(width), Mean(1)), width


def vit(size, width, blocks, patch=2, heads=4):
    layers = [Tokens(size, patch, width)]
    for _ in range(blocks):
        layers.append(Residual(nn.Sequential(nn.LayerNorm(width), Attention(width, heads))))
        layers.append(Residual(nn.Sequential(nn.LayerNorm(width), *wide_and_back(width))))
    return nn.Sequential(*layers, nn.LayerNorm(width), Mean(1)), width


def wide_and_back(width):
    return nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)


def recurrent(size, kind, width, layers=1):
    return Recurrent({"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind], size, width, layers), width


def wired(size, graph, width=128, depth=3):
    layers = [nn.Flatten(), nn.Linear(3 * size * size, width), nn.ReLU()]
    for _ in range(depth):
        layers += [Wired(graph, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers), width


# graphs with 16 nodes and 40 edges: rings of degree 5 on average, random and scale-free ones ------------------------

NODES, EDGES = 16, 40


def watts_strogatz_flex(rewired, seed):
    """A ring of 40 edges, so that nodes have 2 or 3 neighbours a side, with a share of them rewired (You et al.)."""
    rng = torch.Generator().manual_seed(seed)
    ring = [(i, (i + step) % NODES) for step in (1, 2, 3) for i in range(NODES)][:EDGES]
    graph = nx.Graph(ring)
    for k in torch.randperm(EDGES, generator=rng)[: round(rewired * EDGES)].tolist():
        a, b = ring[k]
        free = [v for v in range(NODES) if v != a and not graph.has_edge(a, v)]
        graph.remove_edge(a, b)
        graph.add_edge(a, free[int(torch.randint(len(free), (), generator=rng))])
    return graph


def erdos_renyi(seed):
    return nx.gnm_random_graph(NODES, EDGES, seed=seed)


def scale_free(seed):
    """Preferential attachment, with edges added or taken at random until there are 40."""
    graph = nx.barabasi_albert_graph(NODES, 3, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    while (missing := EDGES - graph.number_of_edges()) != 0:
        pairs = list(nx.non_edges(graph)) if missing > 0 else list(graph.edges)
        pair = pairs[int(torch.randint(len(pairs), (), generator=rng))]
        graph.add_edge(*pair) if missing > 0 else graph.remove_edge(*pair)
    return graph


def graphs(repeats=8):
    """Graphs of three kinds by name, ``repeats`` of each kind and share of rewired edges."""
    shares = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
    kinds = {f"ws-{round(100 * p)}": partial(watts_strogatz_flex, p) for p in shares}
    kinds |= {"er": erdos_renyi, "ba": scale_free}
    # A ring without rewired edges is one graph.
    return {
        f"{kind}-{k}": make(seed=k) for kind, make in kinds.items() for k in range(repeats) if kind != "ws-0" or not k
    }


# the zoos -----------------------------------------------------------------------------------------------------


def from_scratch():
    """Constructors ``make(size) -> (body, features)`` of the networks to train from scratch, by (family, name)."""
    found = {}

    def add(family, name, make, *args, **kwargs):
        found[family, f"{family}-{name}"] = partial(_sized, make, args, tuple(kwargs.items()))

    for widths in ((8,), (32,), (128,), (512,), (16, 16), (64, 64), (256, 128), (128, 64, 32), (64,) * 4, (32,) * 6):
        add("mlp", "-".join(map(str, widths)), mlp, widths)
    for activation in ("tanh", "sigmoid"):  # slow starters
        for widths in ((64,) * 3, (32,) * 4, (32,) * 6, (64,) * 8):
            if activation == "tanh" or len(widths) < 5:
                add("mlp-saturating", f"{activation}-{widths[0]}x{len(widths)}", mlp, widths, activation)
    for widths in ((32,) * 8, (64,) * 12):
        add("mlp-saturating", f"relu-{widths[0]}x{len(widths)}", mlp, widths)
    for width, depth in ((16, 2), (64, 2), (256, 2), (64, 4), (32, 8), (128, 6)):
        add("mlp-residual", f"{width}x{depth}", mlp, (width,) * depth, norm=True, residual=True)
    for width, depth in ((32, 2), (128, 2), (64, 4)):
        add("mlp-residual", f"silu-{width}x{depth}", mlp, (width,) * depth, "silu", residual=True)
    for name, graph in graphs(1).items():
        add("wired", name, wired, graph)
    for channels, depth in ((4, 1), (16, 1), (64, 1), (4, 2), (8, 2), (16, 2), (32, 2), (8, 3), (16, 4), (8, 6)):
        add("cnn", f"{channels}x{depth}", cnn, channels, depth)
    for activation in ("tanh", "sigmoid", "gelu"):
        add("cnn", f"{activation}-12x3", cnn, 12, 3, activation=activation)
    for channels, depth in ((4, 1), (8, 2), (16, 1), (16, 2), (24, 2), (8, 3)):
        add("vgg", f"{channels}x{depth}", vgg, channels, depth)
    for channels, blocks, norm in (
        (4, 1, True),
        (8, 1, True),
        (16, 1, True),
        (24, 1, True),
        (8, 2, True),
        (12, 3, True),
    ):
        add("resnet", f"{channels}x{blocks}", resnet, channels, blocks, norm)
    for channels, blocks in ((8, 1), (16, 1), (8, 3)):
        add("resnet", f"plain-{channels}x{blocks}", resnet, channels, blocks, False)
    for channels, blocks, expand in ((8, 2, 2), (16, 2, 2), (32, 2, 2), (8, 4, 2), (16, 4, 3), (12, 6, 2)):
        add("depthwise", f"{channels}x{blocks}-{expand}", depthwise, channels, blocks, expand)
    for growth, blocks in ((4, 2), (8, 2), (12, 2), (6, 4), (12, 3)):
        add("dense", f"{growth}x{blocks}", dense, growth, blocks)
    for width, blocks in ((16, 1), (32, 1), (64, 1), (16, 3), (32, 3), (48, 2)):
        add("convnext", f"{width}x{blocks}", convnext, width, blocks)
    for width, blocks in ((16, 1), (32, 1), (64, 1), (16, 3), (32, 3), (64, 2)):
        add("mixer", f"{width}x{blocks}", mixer, width, blocks)
    for width, blocks in ((16, 1), (32, 1), (64, 1), (16, 3), (32, 3), (64, 2), (32, 5)):
        add("vit", f"{width}x{blocks}", vit, width, blocks)
    for kind, width, layers in (
        ("rnn", 32, 1),
        ("rnn", 128, 1),
        ("gru", 32, 1),
        ("gru", 96, 1),
        ("lstm", 48, 1),
        ("gru", 32, 2),
    ):
        add("recurrent", f"{kind}-{width}x{layers}", recurrent, kind, width, layers)
    return found


def wirings():
    """Constructors of perceptrons that differ in the graph of their blocks alone, by (kind of graph, name)."""
    return {
        (name.rsplit("-", 1)[0], f"wired-{name}"): partial(_sized, wired, (graph,), ())
        for name, graph in graphs().items()
    }


def bodies():
    """Constructors of the bodies to pre-train, by (family, name): nine families of four sizes."""
    found = {}

    def add(family, name, make, *args, **kwargs):
        found[family, f"{family}-{name}"] = partial(_sized, make, args, tuple(kwargs.items()))

    for widths in ((32, 32), (128, 64), (256, 128), (64,) * 4):
        add("mlp", "-".join(map(str, widths)), mlp, widths, norm=True)
    for channels, depth in ((4, 2), (8, 3), (16, 3), (24, 2)):
        add("cnn", f"{channels}x{depth}", cnn, channels, depth)
    for channels, depth in ((4, 3), (8, 2), (8, 3), (16, 2)):
        add("vgg", f"{channels}x{depth}", vgg, channels, depth)
    for channels, blocks in ((6, 1), (12, 1), (8, 2), (16, 2)):
        add("resnet", f"{channels}x{blocks}", resnet, channels, blocks)
    for channels, blocks in ((8, 3), (12, 4), (16, 3), (24, 4)):
        add("depthwise", f"{channels}x{blocks}", depthwise, channels, blocks)
    for growth, blocks in ((4, 2), (6, 3), (8, 2), (8, 4)):
        add("dense", f"{growth}x{blocks}", dense, growth, blocks)
    for width, blocks in ((16, 2), (24, 3), (32, 2), (48, 2)):
        add("convnext", f"{width}x{blocks}", convnext, width, blocks)
    for width, blocks in ((16, 2), (32, 1), (32, 2), (48, 2)):
        add("mixer", f"{width}x{blocks}", mixer, width, blocks)
    for width, blocks in ((16, 2), (32, 1), (32, 2), (48, 3)):
        add("vit", f"{width}x{blocks}", vit, width, blocks)
    return found


def _sized(make, args, kwargs, size):
    return make(size, *args, **dict(kwargs))


def classifier(make, size, classes):
    """A body with a linear classifier."""
    body, features = make(size)
    return nn.Sequential(body, nn.Linear(features, classes))
