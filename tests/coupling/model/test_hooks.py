"""P is that of the loss without hooks that change gradients, and so is what verify compares it with."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import graph

import linegraph as lg
from tests.comparison import close


def doubled(g):
    return 2 * g


def all_doubled(gradients, _outputs=None):
    return tuple(None if g is None else 2 * g for g in gradients)


HOOKS = {
    "of a tensor": lambda net, h, z: z.register_hook(doubled),
    "of a node": lambda net, h, z: z.grad_fn.register_hook(all_doubled),
    "before a node": lambda net, h, z: z.grad_fn.register_prehook(all_doubled),
    "before the node before": lambda net, h, z: z.grad_fn.next_functions[0][0].register_prehook(all_doubled),
    "of several tensors": lambda net, h, z: graph.register_multi_grad_hook([h, z], lambda gradients: 1 / 0),
    "of the first of several": lambda net, h, z: graph.register_multi_grad_hook([h, z], lambda g: 1 / 0, mode="any"),
    "of a parameter": lambda net, h, z: net.b.weight.register_hook(doubled),
    "of the gradient of a parameter": lambda net, h, z: net.b.weight.register_post_accumulate_grad_hook(
        lambda p: 1 / 0
    ),
    "kept": lambda net, h, z: z.retain_grad(),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.hook = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3), None

    def forward(self, x):
        h = torch.tanh(self.a(x))
        z = torch.tanh(self.b(h))
        if self.hook is not None and z.requires_grad:
            self.hook(self, h, z)
        return self.c(z)


def expected(net, data, loss=F.mse_loss):
    weights = [net.a.weight, net.b.weight, net.c.weight]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss(net(data[0]), data[1]), weights)])


def check(net, loss, data, gradient):
    for kind in ("signed", "flow"):
        P = lg.NeuralCoupling(net, loss, data, kind=kind)
        assert (P.verify(1e-10)["difference"] < 1e-10).all()
        close(P.gradient(), gradient)
    assert P.num_edges


@pytest.fixture
def data():
    return torch.randn(5, 4).double(), torch.randn(5, 3).double()


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_made_in_the_forward_pass(name, data):
    net = Net().double()
    gradient = expected(net, data)
    net.hook = HOOKS[name]
    check(net, F.mse_loss, data, gradient)


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_hooks_of_modules(register, data):
    hook = all_doubled if "pre" in register else lambda module, inputs, outputs: all_doubled(inputs)
    hook = (lambda module, outputs: all_doubled(outputs)) if "pre" in register else hook
    net, loss = Net().double(), nn.MSELoss()
    gradient = expected(net, data)
    for module in (net.b, loss):
        handle = getattr(module, register)(hook)
        check(net, loss, data, gradient)
        assert getattr(module, "_backward_pre_hooks" if "pre" in register else "_backward_hooks")
        handle.remove()


def test_hooks_of_parameters_and_of_outputs(data):
    net = Net().double()
    gradient = expected(net, data)
    net.b.weight.register_hook(doubled)
    net.b.bias.register_hook(doubled)
    net.b.register_forward_hook(lambda module, inputs, output: output.register_hook(doubled) and None)
    check(net, F.mse_loss, data, gradient)
    assert net.b.weight._backward_hooks


def test_a_forward_hook_that_changes_the_output_counts(data):
    net = Net().double()
    net.b.register_forward_hook(lambda module, inputs, output: 2 * output)
    check(net, F.mse_loss, data, expected(net, data))


def test_hooks_of_saved_tensors_stay(data):
    net, packed = Net().double(), []
    gradient = expected(net, data)
    with graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        P = lg.NeuralCoupling(net, F.mse_loss, data)
        P.verify(1e-10)
    assert packed
    close(P.gradient(), gradient)


def test_a_model_that_is_differentiated_by_a_hook(data):
    """As deep equilibrium models are: P is that of the last step alone."""

    class Equilibrium(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.implicit = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3), False

        def forward(self, x):
            def step(z):
                return torch.tanh(self.b(z) + self.a(x))

            z = torch.zeros_like(x)
            with torch.no_grad():
                for _ in range(20):
                    z = step(z)
            z = step(z)
            if self.implicit and z.requires_grad:
                start = z.detach().requires_grad_()
                again = step(start)
                z.register_hook(lambda g: g + torch.autograd.grad(again, start, g, retain_graph=True)[0])
            return self.c(z)

    model = Equilibrium().double()
    gradient = expected(model, data)
    model.implicit = True
    check(model, F.mse_loss, data, gradient)
