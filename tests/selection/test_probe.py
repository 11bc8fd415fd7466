import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import ConvNextConfig, ConvNextModel, ViTConfig, ViTModel

import linegraph as lg
from linegraph.errors import DataError


def backbone():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()).double()


def images(samples=12):
    torch.manual_seed(1)
    return torch.randn(samples, 3, 7, 7, dtype=torch.float64), torch.arange(samples) % 3


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_capacitance_is_that_of_the_head_on_its_features(kind):
    x, y = images()
    probe = lg.CapacitanceProbe(backbone(), 6, 3, hidden=(5, 4, 4)).double()
    features = probe.backbone(x).mean((2, 3))
    whole = lg.NeuralCoupling(probe, F.cross_entropy, (x, y), kind=kind)
    alone = lg.NeuralCoupling(probe.head, F.cross_entropy, (features, y), kind=kind)
    assert [s.name for s in whole.synapses] == [f"head.{s.name}" for s in alone.synapses]
    assert lg.capacitance(whole).beta_eff == pytest.approx(lg.capacitance(alone).beta_eff, rel=1e-9)
    torch.testing.assert_close(whole.in_strength(), alone.in_strength(), rtol=1e-9, atol=0)


def test_training_moves_the_head_alone():
    x, y = images()
    probe = lg.CapacitanceProbe(backbone(), 6, 3).double()
    before = {name: t.clone() for name, t in probe.state_dict().items()}
    optimizer = torch.optim.SGD(probe.parameters(), 0.5)
    probe.train()
    assert probe.training
    F.cross_entropy(probe(x), y).backward()
    optimizer.step()
    moved = {name for name, t in probe.state_dict().items() if not torch.equal(t, before[name])}
    assert moved == {name for name in before if name.startswith("head.")}


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 4), (2, 6, 4, 5), (2, 9, 6)])
def test_places_and_tokens_are_averaged(shape):
    found = torch.randn(shape)
    probe = lg.CapacitanceProbe(nn.Identity(), 6, 3)
    places = {2: (), 3: (1,) if shape[2:] == (6,) else (2,), 4: (2, 3)}[len(shape)]
    expected = found.mean(places) if places else found
    torch.testing.assert_close(probe(found), probe.head(expected))


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 4), (6,), (2, 4, 6, 5)])
def test_other_features_are_refused(shape):
    probe = lg.CapacitanceProbe(nn.Identity(), 6, 3)
    with pytest.raises(DataError, match="probe of 6 features"):
        probe(torch.randn(shape))


def test_what_holds_no_features_is_refused():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(DataError, match="tuple"):
        lg.CapacitanceProbe(Pair(), 6, 3)(torch.randn(2, 6))


def test_models_of_hugging_face():
    torch.manual_seed(0)
    vit = ViTModel(
        ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
        ),
        add_pooling_layer=False,
    )
    convnext = ConvNextModel(ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2))
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % 2
    expected = {
        vit: lambda: vit(pixel_values=x).last_hidden_state.mean(1),
        convnext: lambda: convnext(pixel_values=x).pooler_output,
    }
    for model, features in expected.items():
        probe = lg.CapacitanceProbe(model, 8, 2).eval()
        torch.testing.assert_close(probe(pixel_values=x), probe.head(features()))
        P = lg.NeuralCoupling(probe, F.cross_entropy, ({"pixel_values": x}, y), kind="magnitude")
        assert lg.capacitance(P).beta_eff > 0


def test_backbones_are_ranked_by_their_probes():
    x, y = images(30)
    x, make = x.float(), lambda width: nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())
    candidates = {str(w): lambda w=w: lg.CapacitanceProbe(make(w), w, 3, hidden=(8, 8)) for w in (2, 6)}
    table = lg.rank(candidates, (x, y), (x, y), epochs=2)
    assert table["error"].isna().all()
    assert set(table["name"]) == {"2", "6"}
