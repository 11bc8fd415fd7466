import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    ConvNextConfig,
    ConvNextModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ViTConfig,
    ViTModel,
)

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


# a backbone with a classifier, fine-tuned or frozen -------------------------------------------------------------


def classifying():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(24, 7)).double()


def moved_by_training(probe, x, y):
    """The states that two steps with weight decay change."""
    before = {name: t.clone() for name, t in probe.state_dict().items()}
    optimizer = torch.optim.AdamW(probe.parameters(), 0.1, weight_decay=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(probe.train()(x), y).backward()
        optimizer.step()
    return {name for name, t in probe.state_dict().items() if not torch.equal(t, before[name])}


@pytest.mark.parametrize("frozen", [True, False])
def test_what_training_moves(frozen):
    x, y = images()
    probe = lg.CapacitanceProbe(classifying(), num_classes=3, hidden=(5, 4, 4), frozen=frozen).double()
    names = probe.state_dict().keys()
    moved = moved_by_training(probe, x, y)
    if frozen:
        assert moved == {name for name in names if name.startswith("head.")}
    else:
        assert moved == {name for name in names if not name.startswith("backbone.6.")}


@pytest.mark.parametrize("frozen", [True, False])
def test_modes_follow_the_probe_unless_frozen(frozen):
    probe = lg.CapacitanceProbe(classifying().eval(), num_classes=3, frozen=frozen)
    assert probe.training
    assert probe.backbone.training is not frozen
    for mode in (False, True):
        assert probe.train(mode) is probe
        assert all(part.training is (mode and not frozen) for part in probe.backbone.modules())
        assert probe.head.training is mode


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow"])
def test_a_fine_tuned_probe_has_the_coupling_of_body_and_head(kind):
    """The same network without its old classifier, written as one Sequential."""
    x, y = images()
    probe = lg.CapacitanceProbe(classifying(), num_classes=3, hidden=(5, 4, 4), frozen=False).double().eval()
    whole = lg.NeuralCoupling(probe, F.cross_entropy, (x, y), kind=kind)
    plain = nn.Sequential(*probe.backbone[:-1], *probe.head)
    alone = lg.NeuralCoupling(plain, F.cross_entropy, (x, y), kind=kind)
    assert [s.name for s in whole.synapses] == ["backbone.0.weight", *(f"head.{k}.weight" for k in (0, 2, 4, 6))]
    torch.testing.assert_close(whole.in_strength(), alone.in_strength(), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(whole.out_strength(), alone.out_strength(), rtol=1e-9, atol=1e-15)
    assert lg.capacitance(whole).beta_eff == pytest.approx(lg.capacitance(alone).beta_eff, rel=1e-9)
    if kind == "signed":
        whole.verify()


@pytest.mark.parametrize("frozen", [True, False])
def test_every_weight_has_a_role_in_the_coupling(frozen):
    x, y = images()
    probe = lg.CapacitanceProbe(classifying(), num_classes=3, hidden=(5, 4, 4), frozen=frozen).double()
    P = lg.NeuralCoupling(probe, F.cross_entropy, (x, y), kind="magnitude")
    table = P.coverage()
    assert set(table["name"]) == {name for name, _ in probe.named_parameters()}
    roles = dict(zip(table["name"], table["role"], strict=True))
    assert (roles["backbone.0.weight"] == "synapse") is not frozen
    assert roles["backbone.6.weight"] != "synapse"
    assert all(roles[f"head.{k}.weight"] == "synapse" for k in (0, 2, 4, 6))
    assert 0 < lg.capacitance(P).beta_eff < float("inf")


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
def test_fine_tuned_couplings_of_texts_do_not_depend_on_padding(kind):
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=24, dim=8, n_layers=1, n_heads=2, hidden_dim=12, max_position_embeddings=32, num_labels=4
    )
    model = DistilBertForSequenceClassification(config).eval().double()
    ids, y = torch.tensor([[5, 6, 7], [9, 3, 4]]), torch.tensor([0, 2])

    def padded(length):
        more = (0, length - 3)
        return {"input_ids": F.pad(ids, more), "attention_mask": F.pad(torch.ones_like(ids), more)}

    # What enters the classifier, pooled by the model itself; then states of all tokens, averaged by the probe.
    for backbone in (model, model.distilbert):
        probe = lg.CapacitanceProbe(backbone, num_classes=3, hidden=(6, 5, 4), frozen=False).double().eval()
        short, long = (lg.NeuralCoupling(probe, F.cross_entropy, (padded(n), y), kind=kind) for n in (3, 9))
        one, other = short.in_strength(), long.in_strength()
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-8 * float(one.abs().max()))
        assert any(s.name.startswith("backbone.") for s in long.synapses)
        if kind == "signed":
            long.verify()


def test_frozen_weights_of_a_fine_tuned_backbone_stay_frozen():
    x, y = images()
    backbone = classifying()
    backbone[0].requires_grad_(False)
    probe = lg.CapacitanceProbe(backbone, num_classes=3, hidden=(5,), frozen=False).double()
    assert not {"backbone.0.weight", "backbone.6.weight"} & moved_by_training(probe, x, y)


def test_weights_that_a_classifier_shares_with_other_layers_are_trained():
    config = BertConfig(
        vocab_size=24, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, pad_token_id=0
    )
    backbone = BertForMaskedLM(config)
    probe = lg.CapacitanceProbe(backbone, num_classes=3, hidden=(5,), frozen=False)
    assert probe.classifier == "cls.predictions.decoder"
    assert backbone.get_input_embeddings().weight.requires_grad


def test_the_backbone_stays_whole():
    x, _ = images()
    backbone = classifying().eval()
    with torch.no_grad():
        before = backbone(x)
    states = {name: t.clone() for name, t in backbone.state_dict().items()}
    probe = lg.CapacitanceProbe(backbone, num_classes=3).double()
    probe(x)
    assert probe.backbone is backbone
    assert isinstance(backbone[-1], nn.Linear)
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in backbone.modules())
    assert all(torch.equal(t, states[name]) for name, t in backbone.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), before)


@pytest.mark.parametrize("frozen", [True, False])
def test_states_and_copies(frozen):
    x, y = images()
    probe = lg.CapacitanceProbe(classifying(), num_classes=3, hidden=(5,), frozen=frozen).double()
    twin = copy.deepcopy(probe)
    other = lg.CapacitanceProbe(classifying(), num_classes=3, hidden=(5,), frozen=frozen).double()
    moved_by_training(probe, x, y)
    other.load_state_dict(probe.state_dict())
    probe.eval(), other.eval(), twin.eval()
    torch.testing.assert_close(other(x), probe(x))
    assert not torch.allclose(twin(x), probe(x))
    assert moved_by_training(twin, x, y)
    torch.testing.assert_close(twin.eval()(x), probe(x)) if frozen else None
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in probe.parameters()]


def test_scores_of_source_classes_need_a_classifier():
    probe = lg.CapacitanceProbe(backbone(), 6, 3).double()
    with pytest.raises(DataError, match="without num_features=, or name it by classifier="):
        probe.source_scores(images()[0])


def test_the_number_of_classes_is_needed():
    with pytest.raises(DataError, match="num_classes is missing; pass the number of classes"):
        lg.CapacitanceProbe(classifying())


def test_fine_tuned_and_frozen_probes_are_ranked():
    x, y = images(30)
    x = x.float()

    def make(frozen):
        return lambda: lg.CapacitanceProbe(classifying().float(), num_classes=3, hidden=(8, 8), frozen=frozen)

    table = lg.rank({"frozen": make(True), "tuned": make(False)}, (x, y), (x, y), epochs=2)
    assert table["error"].isna().all()
    assert (table["beta_eff"] > 0).all()
