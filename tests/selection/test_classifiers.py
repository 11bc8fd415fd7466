"""The classifier of a model is found without data, and confirmed in the forward pass."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import linegraph as lg
from linegraph.errors import DataError
from linegraph.selection.classifiers import find_classifier, num_features_of

CLASSES = 5


# torch ------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """Named as in torchvision."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, bias=False)
        self.layer1 = nn.Sequential(Block(6), Block(6))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.fc(self.avgpool(self.layer1(self.conv1(x))).flatten(1))


class Digits(nn.Module):
    """Returns log-probabilities, as the first example of PyTorch does."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(108, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return F.log_softmax(self.fc2(F.relu(self.fc1(x.flatten(1)))), dim=1)


class Attention(nn.Module):
    """Named as torchvision names the parts of its vision transformers."""

    def __init__(self):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, 8, 2, 2)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(8, CLASSES))

    def forward(self, x):
        return self.heads(self.encoder(self.conv_proj(x).flatten(2).transpose(1, 2))[:, 0])


def body():
    return nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()


TORCH = {
    "sequential": (lambda: nn.Sequential(*body(), nn.Linear(24, CLASSES)), "5", 24),
    "nested": (lambda: nn.Sequential(nn.Sequential(*body()), nn.Sequential(nn.Linear(24, CLASSES))), "1.0", 24),
    "softmax": (lambda: nn.Sequential(*body(), nn.Linear(24, CLASSES), nn.Softmax(1)), "5", 24),
    "sigmoid": (lambda: nn.Sequential(*body(), nn.Linear(24, CLASSES), nn.Sigmoid()), "5", 24),
    "weight norm": (
        lambda: nn.Sequential(*body(), nn.utils.parametrizations.weight_norm(nn.Linear(24, CLASSES))),
        "5",
        24,
    ),
    "resnet": (ResNet, "fc", 6),
    "digits": (Digits, "fc2", 8),
    "attention": (Attention, "heads.head", 8),
}


# timm -------------------------------------------------------------------------------------------------------


class Timm(nn.Module):
    """The interface of the models of timm, whose classifier may be an identity, linear or a convolution."""

    def __init__(self, classes=CLASSES, convolution=False):
        super().__init__()
        # Registered before the rest, so that its place says nothing.
        self.head = nn.Module()
        self.conv = convolution
        self.num_features = self.head_hidden_size = 6
        self.reset_classifier(classes)
        self.stem = nn.Conv2d(3, 6, 3)

    def reset_classifier(self, num_classes, global_pool="avg"):
        layer = (lambda: nn.Conv2d(6, num_classes, 1)) if self.conv else (lambda: nn.Linear(6, num_classes))
        self.head.fc = layer() if num_classes else nn.Identity()

    def get_classifier(self):
        return self.head.fc

    def forward_features(self, x):
        return F.relu(self.stem(x))

    def forward_head(self, x, pre_logits=False):
        x = x.mean((2, 3), keepdim=True)
        x = x if self.conv else x.flatten(1)
        return x.flatten(1) if pre_logits else self.head.fc(x).flatten(1)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


class Distilled(Timm):
    def get_classifier(self):
        return self.head.fc, self.head.fc


# Hugging Face -----------------------------------------------------------------------------------------------

VISION = {
    **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    **{"image_size": 8, "patch_size": 4, "num_labels": CLASSES},
}
TEXT = {
    **{"vocab_size": 24, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12},
    **{"max_position_embeddings": 60, "pad_token_id": 0, "num_labels": CLASSES},
}
STAGES = {"hidden_sizes": [4, 8], "depths": [1, 1], "num_labels": CLASSES}
SWIN = {
    **{"image_size": 8, "patch_size": 2, "embed_dim": 4, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2},
    "num_labels": CLASSES,
}
DISTIL = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12, "vocab_size": 24, "num_labels": CLASSES}
GPT2 = {
    **{"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 40, "vocab_size": 24, "num_labels": CLASSES},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
BART = {
    **{"vocab_size": 24, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2},
    **{"decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "max_position_embeddings": 40},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "num_labels": CLASSES},
}
CLIP = {
    "vision_config": {name: value for name, value in VISION.items() if name != "num_labels"},
    "text_config": {
        **{name: value for name, value in TEXT.items() if name != "num_labels"},
        **{"bos_token_id": 1, "eos_token_id": 2},
    },
    "num_labels": CLASSES,
}
OF_IMAGES = {
    "ViT": (VISION, "classifier", True),
    "DeiT": (VISION, "classifier", True),
    "Swin": (SWIN, "classifier", True),
    "ConvNext": ({**STAGES, "num_stages": 2}, "classifier", True),
    "ResNet": ({**STAGES, "embedding_size": 4, "layer_type": "basic"}, "classifier.1", True),
    "CLIP": (CLIP, "classifier", False),
}
OF_TEXTS = {
    "Bert": (TEXT, "classifier", True),
    "Roberta": (TEXT, "classifier.out_proj", True),
    "DistilBert": (DISTIL, "classifier", True),
    "GPT2": (GPT2, "score", True),
    "Llama": ({**TEXT, "num_key_value_heads": 2}, "score", True),
    "Bart": (BART, "classification_head.out_proj", False),
}


def hugging_face(name, task=None, **changes):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**({**OF_IMAGES, **OF_TEXTS}[name][0] | changes))
    task = task or ("ForImageClassification" if name in OF_IMAGES else "ForSequenceClassification")
    return getattr(transformers, f"{name}{task}")(config).eval()


def images():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def texts():
    ids = torch.tensor([[5, 6, 7, 23, 9, 2], [9, 3, 4, 2, 0, 0], [4, 4, 8, 11, 2, 0]])
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


# tests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TORCH)
@torch.no_grad()
def test_classifiers_of_torch(name):
    make, classifier, size = TORCH[name]
    torch.manual_seed(0)
    model = make().eval()
    assert find_classifier(model) == (classifier, size)
    probe, x = lg.CapacitanceProbe(model, num_classes=3, hidden=(4,)).eval(), images()[:, :, :6, :6]
    features, scores = probe.features(x), probe.source_scores(x)
    torch.testing.assert_close(model.get_submodule(classifier)(features), scores)
    returned = {"softmax": scores.softmax(1), "digits": scores.log_softmax(1), "sigmoid": scores.sigmoid()}
    torch.testing.assert_close(model(x), returned.get(name, scores))
    torch.testing.assert_close(probe(x), probe.head(features))


@pytest.mark.parametrize("convolution", [False, True])
@torch.no_grad()
def test_classifiers_of_timm(convolution):
    torch.manual_seed(0)
    model, x = Timm(convolution=convolution).eval(), images()
    assert find_classifier(model) == ("head.fc", 6)
    probe = lg.CapacitanceProbe(model, num_classes=3)
    torch.testing.assert_close(probe.features(x), model.forward_head(model.forward_features(x), pre_logits=True))
    torch.testing.assert_close(probe.source_scores(x), model(x))
    model.reset_classifier(0)
    headless = lg.CapacitanceProbe(model, num_classes=3)
    assert (headless.classifier, headless.num_features) == (None, 6)
    torch.testing.assert_close(headless.features(x), model(x))
    with pytest.raises(DataError, match="2 classifiers; pass classifier="):
        find_classifier(Distilled())


@pytest.mark.parametrize("name", [*OF_IMAGES, *OF_TEXTS])
@torch.no_grad()
def test_classifiers_of_hugging_face(name):
    _, classifier, has_body = {**OF_IMAGES, **OF_TEXTS}[name]
    batch = {"pixel_values": images()} if name in OF_IMAGES else texts()
    model = hugging_face(name)
    probe = lg.CapacitanceProbe(model, num_classes=3).eval()
    assert (probe.classifier, probe.num_features) == (classifier, 8)
    torch.testing.assert_close(probe.source_scores(**batch), model(**batch).logits)
    torch.testing.assert_close(model.get_submodule(classifier)(probe.features(**batch)), model(**batch).logits)
    if has_body:  # a model of the body alone has no classifier
        body = lg.CapacitanceProbe(hugging_face(name, "Model"), num_classes=3).eval()
        assert (body.classifier, body.num_features) == (None, 8)
        assert body(**batch).shape == (len(next(iter(batch.values()))), 3)


@torch.no_grad()
def test_what_models_of_hugging_face_feed_their_classifiers():
    batch = texts()
    gpt2 = hugging_face("GPT2")
    last = batch["attention_mask"].sum(1) - 1
    states = gpt2.transformer(**batch).last_hidden_state
    expected = states[torch.arange(3), last]
    torch.testing.assert_close(lg.CapacitanceProbe(gpt2, num_classes=3).features(**batch), expected)
    bert = hugging_face("Bert")
    expected = bert.bert(**batch).pooler_output
    torch.testing.assert_close(lg.CapacitanceProbe(bert, num_classes=3).features(**batch), expected)
    vit = hugging_face("ViT", num_labels=0)  # its classifier is an identity
    expected = vit(images()).logits
    torch.testing.assert_close(lg.CapacitanceProbe(vit, 8, 3).features(images()), expected)
    assert lg.CapacitanceProbe(vit, num_classes=3).features(images()).shape == (4, 8)


@torch.no_grad()
def test_scores_of_every_token_are_averaged_over_tokens():
    bert, batch = hugging_face("Bert", "ForTokenClassification"), texts()
    probe = lg.CapacitanceProbe(bert, num_classes=3)
    states, mask = bert.bert(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(2)
    expected = (states * mask).sum(1) / mask.sum(1)
    torch.testing.assert_close(probe.features(**batch), expected)
    torch.testing.assert_close(probe.source_scores(**batch), bert.classifier(expected))


def test_models_adapted_by_peft():
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(hugging_face("ViT"), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    found = find_classifier(adapted)
    assert found.num_features == 8
    assert adapted.get_submodule(found.name) is adapted.get_base_model().classifier
    probe = lg.CapacitanceProbe(adapted, num_classes=3, hidden=(6, 5), frozen=False)
    P = lg.NeuralCoupling(probe, F.cross_entropy, ({"pixel_values": images()}, torch.arange(4) % 3), kind="magnitude")
    assert {("lora" in s.name, "head." in s.name) for s in P.synapses} == {(True, False), (False, True)}


class Written(nn.Module):
    """Layers by name, and what they do."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.run(self, x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()), "ends with '0', a Conv2d; pass classifier=.* or num_features="),
        (nn.Flatten(), "has no weights"),
        (nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.LazyLinear(4)), "'2' .* does not start with a layer"),
        (
            Written(None, fc=nn.Linear(4, 3), aux=nn.Linear(4, 3)),
            "each of the layers 'fc', 'aux' may be",
        ),
        (Written(None, fc=nn.Linear(4, 3), head=nn.Linear(4, 3)), "each of the layers 'fc', 'head' may be"),
    ],
)
def test_models_in_which_no_classifier_is_found(model, message):
    with pytest.raises(DataError, match=message):
        lg.CapacitanceProbe(model, num_classes=3)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda m, x: m.body(x), "calls its layer 'fc', taken as its classifier, 0 times"),
        (lambda m, x: m.fc(m.fc(x)), "2 times"),
        (lambda m, x: m.body(m.fc(x)), "does not return the outputs of its layer 'fc'"),
        (lambda m, x: F.relu(m.fc(x)), "pass classifier= with the name of the layer"),
        (lambda m, x: m.fc(x) + m.body(x), "does not return"),
        (lambda m, x: {"scores": m.fc(x)}, "does not return"),
    ],
)
def test_a_layer_that_turns_out_to_be_no_classifier_is_refused(run, message):
    torch.manual_seed(0)
    model = Written(run, body=nn.Linear(8, 8), fc=nn.Linear(8, 8))
    probe = lg.CapacitanceProbe(model, num_classes=3)
    with pytest.raises(DataError, match=message):
        probe(torch.randn(4, 8))
    assert not model.fc._forward_hooks


def test_a_classifier_beside_another_is_refused():
    probe = lg.CapacitanceProbe(hugging_face("DeiT", "ForImageClassificationWithTeacher"), num_classes=3)
    with pytest.raises(DataError, match="'distillation_classifier'"):
        probe(images())


@torch.no_grad()
def test_a_classifier_that_is_named():
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(24, 7), nn.ReLU(), nn.Linear(7, CLASSES))
    model, x = (
        Written(lambda m, x: m.classifier(m.body(x)), body=nn.Sequential(*body()), classifier=head).eval(),
        images(),
    )
    for name, size, features in (("classifier", 24, model.body(x)), ("classifier.2", 7, head[:2](model.body(x)))):
        probe = lg.CapacitanceProbe(model, num_classes=3, classifier=name)
        assert (probe.classifier, probe.num_features) == (name, size) == (name, num_features_of(model, name))
        torch.testing.assert_close(probe.features(x), features)
        torch.testing.assert_close(probe.source_scores(x), model(x))
    with pytest.raises(DataError, match=r"no layer 'fc'; its linear layers are classifier.0, classifier.2"):
        lg.CapacitanceProbe(model, num_classes=3, classifier="fc")
    with pytest.raises(DataError, match=r"'body.4' .*, a Flatten"):
        lg.CapacitanceProbe(model, num_classes=3, classifier="body.4")
    pair = Written(lambda m, x: m.fc(x), fc=Written(lambda m, x: (m.last(x), x), last=nn.Linear(24, 4)))
    with pytest.raises(DataError, match="'fc' of the backbone maps a Tensor to a tuple"):
        lg.CapacitanceProbe(pair, num_classes=3, classifier="fc")(torch.ones(2, 24))
    with pytest.raises(DataError, match="24 features enter the layer 'classifier', not num_features=7"):
        lg.CapacitanceProbe(model, 7, 3, classifier="classifier")


@torch.no_grad()
def test_a_convolution_that_classifies():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model, x = nn.Sequential(*layers), images()
    probe = lg.CapacitanceProbe(model, num_classes=3, classifier="2")
    torch.testing.assert_close(probe.features(x), model[:2](x).mean((2, 3)))
    torch.testing.assert_close(probe.source_scores(x), model[:3](x).mean((2, 3)))


def test_a_probe_on_a_device(device):
    probe, x = lg.CapacitanceProbe(hugging_face("GPT2"), num_classes=3, hidden=(6, 5), frozen=False).eval(), texts()
    with torch.no_grad():
        expected = probe.features(**x)
        found = probe.to(device).features(**{name: part.to(device) for name, part in x.items()})
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
@pytest.mark.parametrize("task", ["ForSequenceClassification", "Model"])
def test_couplings_of_fine_tuned_decoders(task, kind):
    """The choice of a token, and the mean over tokens, are part of the paths from the backbone to the head."""
    probe = lg.CapacitanceProbe(hugging_face("GPT2", task), num_classes=3, hidden=(6, 5, 4), frozen=False).double()
    P = lg.NeuralCoupling(probe, F.cross_entropy, (texts(), torch.tensor([0, 1, 2])), kind=kind)
    strengths = P.split(P.in_strength())
    of_backbone = [v for name, v in strengths.items() if name.startswith("backbone.")]
    assert any(bool(v.any()) for v in of_backbone)
    assert "backbone.score.weight" not in strengths
    if kind == "signed":
        P.verify()
