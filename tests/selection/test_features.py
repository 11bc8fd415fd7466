"""Features of a text do not depend on how long the others of its batch are."""

from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import linegraph as lg
from linegraph.errors import DataError

COMMON = {
    "vocab_size": 24,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


def modern_bert():
    config = transformers.ModernBertConfig(
        **COMMON, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, global_attn_every_n_layers=2
    )
    return transformers.ModernBertModel(config)


def distil_bert():
    return transformers.DistilBertModel(
        transformers.DistilBertConfig(
            vocab_size=24, dim=8, n_layers=2, n_heads=2, hidden_dim=12, max_position_embeddings=40
        )
    )


def t5_encoder():
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=24, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2)
    )


def gpt2():
    return transformers.GPT2Model(transformers.GPT2Config(vocab_size=24, n_embd=8, n_layer=2, n_head=2, n_positions=40))


def llama():
    return transformers.LlamaModel(transformers.LlamaConfig(**COMMON, num_key_value_heads=2))


def bart():
    return transformers.BartModel(
        transformers.BartConfig(
            vocab_size=24,
            d_model=8,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=12,
            decoder_ffn_dim=12,
            max_position_embeddings=40,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=2,
        )
    )


ENCODERS = {
    "distilbert": distil_bert,
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**COMMON), add_pooling_layer=False),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**COMMON), add_pooling_layer=False),
    "electra": lambda: transformers.ElectraModel(transformers.ElectraConfig(**COMMON, embedding_size=8)),
    "modernbert": modern_bert,
    "t5": t5_encoder,
    "gpt2": gpt2,
    "llama": llama,
    "bart encoder": lambda: bart().get_encoder(),
}

POOLED = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**COMMON)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**COMMON)),
    "albert": lambda: transformers.AlbertModel(transformers.AlbertConfig(**COMMON, embedding_size=8)),
    "mpnet": lambda: transformers.MPNetModel(transformers.MPNetConfig(**COMMON)),
    "clip text": lambda: transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**COMMON, bos_token_id=1, eos_token_id=23)
    ),
}

TEXT = torch.tensor([[5, 6, 7, 23], [9, 3, 4, 23]])


def probe_on(make, hidden=(6,)):
    torch.manual_seed(0)
    return lg.CapacitanceProbe(make().eval(), num_features=8, num_classes=3, hidden=hidden).eval()


def padded(length, dtype=torch.long, left=False):
    sides = (length - 4, 0) if left else (0, length - 4)
    return {"input_ids": F.pad(TEXT, sides), "attention_mask": F.pad(torch.ones_like(TEXT), sides).to(dtype)}


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_the_tokens_alone_are_averaged(name):
    probe = probe_on(ENCODERS[name])
    alone = probe(**padded(4))
    expected = probe.head(probe.backbone(**padded(4)).last_hidden_state.mean(1))
    torch.testing.assert_close(alone, expected)
    for dtype in (torch.long, torch.bool, torch.float32):
        if dtype != torch.bool or name != "gpt2":
            torch.testing.assert_close(probe(**padded(11, dtype)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", POOLED)
@torch.no_grad()
def test_what_models_pool_themselves_is_taken_as_it_is(name):
    probe = probe_on(POOLED[name])
    expected = probe.head(probe.backbone(**padded(4)).pooler_output)
    torch.testing.assert_close(probe(**padded(4)), expected)
    torch.testing.assert_close(probe(**padded(11)), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_texts_of_several_lengths_in_one_batch():
    probe = probe_on(distil_bert)
    lengths = [2, 7, 4]
    texts = [torch.randint(1, 24, (n,), generator=torch.Generator().manual_seed(n)) for n in lengths]
    alone = torch.cat([probe(text[None], torch.ones(1, len(text))) for text in texts])
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    torch.testing.assert_close(probe(ids, mask), alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(probe(input_ids=ids, attention_mask=mask.long()), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@torch.no_grad()
def test_padding_on_the_left(name):
    """With the positions that generation takes; those of Llama are relative."""
    probe = probe_on(ENCODERS[name])
    batch = padded(9, left=True)
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp_min(0)
    torch.testing.assert_close(probe(**batch, position_ids=positions), probe(**padded(4)), rtol=1e-5, atol=1e-5)
    states = probe.backbone(**batch).last_hidden_state
    torch.testing.assert_close(probe(**batch), probe.head(states[:, 5:].mean(1)))


@torch.no_grad()
def test_encoders_with_decoders_have_the_tokens_of_the_decoder():
    probe = probe_on(bart)
    ids = torch.tensor([[2, 5, 9], [2, 7, 0]])
    decoder = {"decoder_input_ids": ids, "decoder_attention_mask": (ids > 0).long()}
    states = probe.backbone(**padded(4), **decoder).last_hidden_state
    expected = probe.head(torch.stack([states[0].mean(0), states[1, :2].mean(0)]))
    torch.testing.assert_close(probe(**padded(4), **decoder), expected)
    torch.testing.assert_close(probe(**padded(9), **decoder), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(probe(**padded(4)), probe.head(probe.backbone(**padded(4)).last_hidden_state.mean(1)))
    with pytest.raises(DataError, match="decoder_attention_mask="):
        probe(**padded(9))


class Encoder(nn.Module):
    """States of its tokens, and nonsense at padding, returned in one form or another."""

    def __init__(self, form=lambda states: states):
        super().__init__()
        self.embedding, self.mix, self.form = nn.Embedding(24, 8), nn.Linear(8, 8), form

    def states(self, input_ids, mask=None):
        states = torch.tanh(self.mix(self.embedding(input_ids)))
        return states if mask is None else states.masked_fill((mask == 0).unsqueeze(2), torch.nan)

    def forward(self, input_ids, attention_mask=None):
        return self.form(self.states(input_ids, attention_mask))


Output = namedtuple("Output", "last_hidden_state pooler_output")


@pytest.mark.parametrize(
    "form",
    [
        lambda states: states,
        lambda states: {"last_hidden_state": states, "pooler_output": None},
        lambda states: {"last_hidden_state": states},
        lambda states: Output(states, None),
        lambda states: states.transpose(1, 2),  # maps (N, F, T)
    ],
)
def test_states_in_other_forms_with_nan_at_padding(form):
    probe = probe_on(lambda: Encoder(form))
    expected = probe.head(probe.backbone.states(TEXT).mean(1))
    for batch in (padded(4), padded(11), padded(11, torch.bool), padded(6, left=True)):
        torch.testing.assert_close(probe(**batch), expected)
        torch.testing.assert_close(probe(*batch.values()), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_long_texts_in_half_precision(dtype):
    """The sum of so many states is beyond the range of half precision."""
    states = torch.full((1, 4000, 8), 100.0, dtype=dtype)
    mask = torch.arange(4000)[None] < 3000

    class Fixed(nn.Module):
        def forward(self, input_ids, attention_mask):
            return states

    probe = lg.CapacitanceProbe(Fixed(), 8, 3).to(dtype)
    expected = probe.head(states[:, 0])
    torch.testing.assert_close(probe(torch.zeros(1, 4000), mask), expected, rtol=1e-2, atol=1e-2)


class Packing(Encoder):
    def forward(self, texts: PackedSequence):
        return PackedSequence(self.states(texts.data), *texts[1:])


class Nesting(Encoder):
    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def forward(self, *texts):
        return torch.nested.as_nested_tensor([self.states(text) for text in texts], layout=self.layout)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_packed_and_nested_sequences():
    texts = [TEXT[0], TEXT[1, :2], TEXT[0, 1:]]
    for make, inputs in (
        (Packing, (pack_sequence(texts, enforce_sorted=False),)),
        (lambda: Nesting(torch.strided), texts),
        (lambda: Nesting(torch.jagged), texts),
    ):
        probe = probe_on(make)
        expected = probe.head(torch.stack([probe.backbone.states(text).mean(0) for text in texts]))
        torch.testing.assert_close(probe(*inputs), expected)
    with pytest.raises(DataError, match="no token"):
        probe(TEXT[0], TEXT[0, :0])
    with pytest.raises(DataError, match="nested tensor"):
        lg.CapacitanceProbe(Nesting(torch.jagged), 5, 3)(*texts)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_encoders_of_torch_and_lengths():
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    states, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    for backbone in (
        layer,
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        nn.TransformerEncoder(layer, 2),
    ):
        probe = lg.CapacitanceProbe(backbone, 8, 3).eval()
        alone = torch.cat([probe(states[:1]), probe(states[1:, :3])])
        torch.testing.assert_close(probe(states, src_key_padding_mask=padding), alone, rtol=1e-5, atol=1e-5)
        causal = nn.Transformer.generate_square_subsequent_mask(5)
        assert probe(states, causal).shape == (2, 3)
        with pytest.raises(DataError, match="dtype bool, True at padding"):
            probe(states, src_key_padding_mask=torch.zeros(2, 5).masked_fill(padding, -torch.inf))

    class Recurrent(nn.Module):
        def forward(self, x, lengths):
            return x

    probe = lg.CapacitanceProbe(Recurrent(), 8, 3)
    expected = probe.head(torch.stack([states[0].mean(0), states[1, :3].mean(0)]))
    torch.testing.assert_close(probe(states, torch.tensor([5, 3])), expected)
    torch.testing.assert_close(probe(states, lengths=torch.tensor([5, 3])), expected)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(2, 4), "sample 0 of a batch has no token"),
        (torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]), "sample 1 of a batch has no token"),
        (torch.tensor([[0.0, 0, -1e9, -1e9]] * 2), "other numbers than 0 and 1"),
        (torch.tensor([[1, 2, 0, 0]] * 2), "other numbers than 0 and 1"),
        (torch.tensor([[1.0, torch.nan, 0, 0]] * 2), "other numbers than 0 and 1"),
        (torch.ones(2, 1, 1, 4), r"attention_mask is \(2, 1, 1, 4\), the states .* are \(2, 4, 8\)"),
        (torch.ones(2, 4, 4), r"attention_mask is \(2, 4, 4\)"),
        (torch.ones(2, 9), r"attention_mask is \(2, 9\)"),
        (torch.ones(3, 4), r"attention_mask is \(3, 4\)"),
        (torch.ones(4), r"attention_mask is \(4,\)"),
        ([[1, 1, 1, 0]] * 2, "attention_mask is a list"),
        ({"full_attention": torch.ones(2, 4)}, "attention_mask is a dict"),
    ],
)
def test_masks_that_do_not_tell_the_tokens_are_refused(mask, message):
    class Heedless(Encoder):
        def forward(self, input_ids, attention_mask=None):
            return self.states(input_ids)

    probe = probe_on(Heedless)
    for call in (lambda: probe(TEXT, mask), lambda: probe(input_ids=TEXT, attention_mask=mask)):
        with pytest.raises(DataError, match=message):
            call()
    one = probe(TEXT, torch.tensor([[1, 1, 0, 0]]))  # the same for all texts
    torch.testing.assert_close(one, probe.head(probe.backbone.states(TEXT[:, :2]).mean(1)))


def test_masks_of_names_that_say_too_little_are_refused():
    class Named(Encoder):
        def forward(self, input_ids, mask=None, head_mask=None, token_type_ids=None, pixel_mask=None):
            return self.states(input_ids)

    class Nameless(Encoder):
        def forward(self, *inputs, **named):
            return self.states(inputs[0])

    probe, mask = probe_on(Named), torch.ones(2, 4)
    with pytest.raises(DataError, match=r"mask of shape \(2, 4\) may tell tokens from padding"):
        probe(TEXT, mask=mask)
    with pytest.raises(DataError, match="pixel_mask marks padded images"):
        probe(TEXT, pixel_mask=torch.zeros(2, 5, 5))
    assert probe(TEXT, head_mask=mask, token_type_ids=mask).shape == (2, 3)
    probe = probe_on(Nameless)
    with pytest.raises(DataError, match="positional input 1 of shape"):
        probe(TEXT, mask)
    expected = probe.head(probe.backbone.states(TEXT)[:, :3].mean(1))
    torch.testing.assert_close(probe(TEXT, attention_mask=torch.tensor([[1, 1, 1, 0]] * 2)), expected)
    assert probe(TEXT, TEXT).shape == (2, 3)


def test_a_model_that_pools_by_itself_is_left_alone():
    class Pooling(Encoder):
        def forward(self, input_ids, attention_mask):
            return self.states(input_ids)[:, 0]

    probe = probe_on(Pooling)
    expected = probe.head(probe.backbone.states(TEXT)[:, 0])
    for mask in (torch.zeros(2, 4), torch.ones(2, 1, 1, 4), None):
        torch.testing.assert_close(probe(TEXT, mask), expected)


def test_as_many_tokens_as_features_are_not_guessed():
    found = torch.randn(2, 6, 6)
    with pytest.raises(DataError, match="6 maps of 6 places or 6 tokens of 6 features"):
        lg.CapacitanceProbe(nn.Identity(), 6, 3)(found)
    probe = probe_on(distil_bert)
    torch.testing.assert_close(probe(**padded(8)), probe(**padded(4)), rtol=1e-5, atol=1e-5)


# in couplings -------------------------------------------------------------------------------------------


def loader(lengths):
    """Three batches of two texts, padded to given lengths."""
    return [(padded(n), torch.tensor([k % 3, (k + 1) % 3])) for k, n in enumerate(lengths)]


@pytest.mark.parametrize("kind", ["signed", "magnitude", "flow", "energy"])
def test_couplings_do_not_depend_on_padding(kind):
    probe = probe_on(distil_bert, hidden=(6, 5, 4)).double()
    couplings = [lg.NeuralCoupling(probe, F.cross_entropy, loader(n), kind=kind) for n in ((4, 4, 4), (4, 9, 12))]
    one, other = (P.in_strength() for P in couplings)
    torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-8 * float(one.abs().max()))
    if kind == "signed":
        couplings[1].verify()


@pytest.mark.parametrize("kind", ["signed", "magnitude"])
def test_the_mean_of_tokens_is_part_of_a_path(kind):
    """Of a backbone that learns: its weights are synapses before the mean."""
    probe = probe_on(Encoder, hidden=(6, 5)).double()
    probe.backbone.requires_grad_(True)
    short, long = (
        lg.NeuralCoupling(probe, F.cross_entropy, loader(n), kind=kind, include=["backbone.mix", "head"])
        for n in ((4, 4, 4), (4, 9, 12))
    )
    assert long.synapses[0].name == "backbone.mix.weight"
    torch.testing.assert_close(long.in_strength(), short.in_strength(), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(long.out_strength(), short.out_strength(), rtol=1e-6, atol=1e-12)
    assert bool(long.split(long.in_strength())["backbone.mix.weight"].any())
    if kind == "signed":
        long.verify()


def test_probes_of_texts_are_ranked():
    data = loader((4, 9, 12))
    candidates = {name: lambda name=name: probe_on(ENCODERS[name], hidden=(6, 5)) for name in ("distilbert", "gpt2")}
    table = lg.rank(candidates, data, data, epochs=2)
    assert table["error"].isna().all()
