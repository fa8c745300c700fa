"""Chapter 4's GPT-2 is the library's, to the last layout of its files; its fusions, its item vectors, its decoder."""

from math import sqrt

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy, embedding

from mmrec_helpers.lessons.decoder import (
    GPT2,
    Add,
    Concat,
    CrossAttention,
    ItemDecoder,
    ItemEmbedding,
    KVCache,
    SelfAttention,
    Weighted,
    attend,
    last_attention,
    load_gpt2,
    reasons,
)
from mmrec_helpers.recommenders.mmgpt2rec import FUSIONS

ITEMS, WIDTH, PLACES = 9, 8, 10
START = ITEMS + 1
WIDTHS = (5, 3)
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def close(found, wanted, tolerance=1e-10):
    """No number differs by more than a share of the largest that is wanted."""
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


def shaken(module, size=0.1):
    """The module with noise on all that it has learnt, so that no part of it is without effect."""
    with torch.no_grad():
        for weight in module.parameters():
            if weight.requires_grad:
                weight.add_(size * torch.randn_like(weight))
    return module


# Attention ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("new", "known"), [(1, 1), (6, 6), (1, 6), (2, 6), (5, 6)])
def test_attend_is_the_formula_written_as_a_loop(new, known):
    query = torch.randn(2, 3, new, 4, dtype=torch.double)
    keys, values = torch.randn(2, 2, 3, known, 4, dtype=torch.double)
    found = attend(query, keys, values)
    for batch, head, row in np.ndindex(2, 3, new):
        seen = known - new + row + 1
        share = [(query[batch, head, row] @ key / sqrt(4)).exp() for key in keys[batch, head, :seen]]
        wanted = sum(w * value for w, value in zip(share, values[batch, head], strict=False)) / sum(share)
        torch.testing.assert_close(found[batch, head, row], wanted)


@pytest.mark.parametrize(("new", "known"), [(6, 6), (1, 6), (4, 6)])
def test_weights_sum_to_one(new, known):
    query, keys = 9 * torch.randn(2, 3, new, 4), torch.randn(2, 3, known, 4)
    torch.testing.assert_close(attend(query, keys, torch.ones(2, 3, known, 5)), torch.ones(2, 3, new, 5))


@pytest.mark.parametrize("new", [1, 4, 6])
def test_no_position_sees_a_later_one_and_each_sees_all_before(new):
    """Values are the unit vectors: what comes out are the weights."""
    query, keys = torch.randn(2, 3, new, 4), torch.randn(2, 3, 6, 4)
    weights = attend(query, keys, torch.eye(6).expand(2, 3, 6, 6))
    seen = torch.arange(6) <= torch.arange(6 - new, 6)[:, None]
    assert torch.equal(weights > 0, seen.expand_as(weights))


@pytest.mark.parametrize("new", [3, 6])
def test_dropped_weights_are_made_up_for_by_the_others(new):
    query, keys = torch.randn(200, 3, new, 4), torch.randn(200, 3, 6, 4)
    found = attend(query, keys, torch.ones(200, 3, 6, 1), dropout=0.3)
    assert found.std() > 0.1
    assert found.mean().item() == pytest.approx(1, abs=0.03)


def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="3 heads cannot share a dimension of 8"):
        SelfAttention(8, 3, 0.0)
    with pytest.raises(ValueError, match="12 heads cannot share a dimension of 1000"):
        GPT2(1000, 1, 12, 4, 0.1)


# GPT-2 against the library --------------------------------------------------------------------------------------------


def library(dim, num_layers, num_heads, places, words, **options):
    """GPT-2 of transformers with weights of all kinds, in double precision, without dropout."""
    sizes = {"n_embd": dim, "n_layer": num_layers, "n_head": num_heads, "n_positions": places, "vocab_size": words}
    config = transformers.GPT2Config(**sizes, **NO_DROPOUT, bos_token_id=0, eos_token_id=0, **options)
    return shaken(transformers.GPT2LMHeadModel(config).eval()).double()


def logits_of(gpt2, words, ids):
    """(B, T, V): what our GPT-2 says of the next word."""
    return gpt2(embedding(ids, words)) @ words.T


def loaded(state, num_heads):
    """Ours, in double precision, without dropout."""
    gpt2, words = load_gpt2(state, num_heads)
    return gpt2.double().eval(), words.double().clone()


def drawn_sizes(seed):
    """Width, layers, heads, places and words of a small GPT-2."""
    rng = np.random.default_rng(seed)
    num_heads, of_each = int(rng.choice([1, 2, 3, 4, 8])), int(rng.choice([1, 2, 5, 8]))
    dim = max(num_heads * of_each, 2)
    return dim, *(int(rng.integers(*limits)) for limits in ((1, 6),)), num_heads, *map(int, rng.integers(2, 50, 2))


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("seed", range(20))
@torch.no_grad()
def test_logits_are_the_librarys(seed, prefix):
    torch.manual_seed(seed)
    dim, num_layers, num_heads, places, words = drawn_sizes(seed)
    theirs = library(dim, num_layers, num_heads, places, words)
    state = theirs.state_dict() if prefix else theirs.transformer.state_dict()
    assert all(name.startswith(("transformer.", "lm_head")) == bool(prefix) for name in state)
    for length in {1, places // 2, places}:
        ids = torch.randint(words, (3, length))
        wanted = theirs(ids).logits
        close(logits_of(*loaded(state, num_heads), ids), wanted)
        gpt2, table = load_gpt2({name: tensor.float() for name, tensor in state.items()}, num_heads)
        close(logits_of(gpt2.eval(), table, ids).double(), wanted, 1e-5)


def test_the_past_in_the_librarys_cache_is_the_past_in_ours():
    theirs = library(12, 3, 2, 9, 20)
    ours, words = loaded(theirs.state_dict(), 2)
    ids, caches, past = torch.randint(20, (2, 9)), [KVCache() for _ in range(3)], None
    with torch.no_grad():
        for step in range(9):
            out = theirs(ids[:, step : step + 1], past_key_values=past, use_cache=True)
            past = out.past_key_values
            close(ours(embedding(ids[:, step : step + 1], words), caches) @ words.T, out.logits)


def test_gradients_are_the_librarys():
    theirs = library(12, 3, 4, 7, 20)
    ours, words = load_gpt2(theirs.state_dict(), 4, dropout=0.0)
    ours, words = ours.double(), words.clone().requires_grad_()
    ids = torch.randint(20, (5, 7))

    def loss_of(logits):  # the library's own is computed in single precision
        return cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    out = theirs.train()(ids, labels=ids)
    loss_of(out.logits).backward()
    loss = loss_of(logits_of(ours, words, ids))
    loss.backward()
    close(loss, out.loss.double(), 1e-6)
    wanted = {name: weight.grad for name, weight in theirs.transformer.named_parameters()}
    close(words.grad, wanted["wte.weight"])
    close(ours.blocks[1].attention.inputs.weight.grad, wanted["h.1.attn.c_attn.weight"].T)
    close(ours.blocks[2].mlp[0].bias.grad, wanted["h.2.mlp.c_fc.bias"])
    holder, _ = load_gpt2(wanted, 4)  # the gradients under the names of the weights
    for name, weight in holder.double().named_parameters():
        close(ours.get_parameter(name).grad, weight.detach(), 1e-5)  # it was float for a moment


@pytest.mark.parametrize("masked_bias", [False, True])
@torch.no_grad()
def test_a_file_as_the_hub_has_it_is_read(tmp_path, masked_bias):
    """All of the published gpt2 but its width: no prefix, no output layer, and the masks of attention beside it."""
    theirs = library(24, 12, 12, 1024, 50_257)
    state = {name: tensor.float().contiguous() for name, tensor in theirs.transformer.state_dict().items()}
    for layer in range(12):
        state[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 1024, 1024).tril()
        if masked_bias:
            state[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    assert state["h.0.attn.c_attn.weight"].shape == (24, 72)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs.config.save_pretrained(tmp_path)
    read = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval().double()
    ours, words = loaded(load_file(tmp_path / "model.safetensors"), 12)
    (tmp_path / "model.safetensors").unlink()  # it is large
    ids = torch.randint(50_257, (2, 40))
    close(logits_of(ours, words, ids), read(ids).logits)
    close(read(ids).logits, theirs(ids).logits, 1e-5)


@pytest.mark.parametrize(
    ("dim", "num_layers", "num_heads", "number"), [(768, 12, 12, 124_439_808), (1024, 24, 16, 354_823_168)]
)
def test_the_published_sizes_are_those_of_the_published_models(dim, num_layers, num_heads, number):
    with torch.device("meta"):
        ours = GPT2(dim, num_layers, num_heads, 1024, 0.1)
        config = transformers.GPT2Config(n_embd=dim, n_layer=num_layers, n_head=num_heads)
        state = transformers.GPT2LMHeadModel(config).state_dict()
        read, words = load_gpt2(state, num_heads)
    assert words.shape == (50_257, dim)
    for gpt2 in (ours, read):
        assert sum(weight.numel() for weight in gpt2.parameters()) + words.numel() == number
    assert [len(read.blocks), read.positions.num_embeddings, read.blocks[0].attention.num_heads] == [
        num_layers,
        1024,
        num_heads,
    ]


def test_what_is_no_gpt2_is_refused_by_what_it_lacks():
    state = library(8, 3, 2, 5, 20).state_dict()
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    other = transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=20)).state_dict()
    for wrong in ({}, other, {name: state[name] for name in state if "h." in name}):
        with pytest.raises(KeyError, match=r"wpe\.weight"):
            load_gpt2(wrong, 2)
    for missing in ("wte.weight", "ln_f.bias", "h.1.attn.c_proj.weight", "h.2.mlp.c_fc.bias", "h.0.ln_2.weight"):
        with pytest.raises(KeyError, match=missing.replace(".", r"\.")):
            load_gpt2({name: state[name] for name in state if not name.endswith(missing)}, 2)
    with pytest.raises(KeyError, match=r"h\.1\."):  # a whole layer in the middle
        load_gpt2({name: state[name] for name in state if ".h.1." not in name}, 2)


# GPT-2 by itself ------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpt2():
    """Three blocks in double precision, without dropout, whose every part has an effect."""
    return shaken(GPT2(WIDTH, 3, 2, PLACES, 0.1)).double().eval()


def caches_of(gpt2):
    return [KVCache() for _ in gpt2.blocks]


@torch.no_grad()
def test_the_future_cannot_change_the_past_and_the_past_changes_the_future(gpt2):
    vectors = torch.randn(2, PLACES, WIDTH, dtype=torch.double)
    before = gpt2(vectors)
    for place in range(PLACES):
        changed = vectors.clone()
        changed[:, place] += torch.randn(WIDTH)
        moved = (gpt2(changed) - before).abs().amax((0, 2))
        assert (moved[:place] < 1e-12).all()
        assert (moved[place:] > 1e-6).all()


@pytest.mark.parametrize("sizes", [[1] * PLACES, [PLACES], [3, 1, 4, 2], [1, 9], [9, 1]])
@torch.no_grad()
def test_in_pieces_is_as_at_once(gpt2, sizes):
    vectors, caches = torch.randn(2, PLACES, WIDTH, dtype=torch.double), caches_of(gpt2)
    pieces = [gpt2(piece, caches) for piece in vectors.split(sizes, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), gpt2(vectors))
    assert [cache.length for cache in caches] == [PLACES] * 3
    assert caches[0].keys.shape == caches[2].values.shape == (2, 2, PLACES, WIDTH // 2)


@torch.no_grad()
def test_a_cache_starts_empty_and_belongs_to_one_reading(gpt2):
    vectors = torch.randn(2, 4, WIDTH, dtype=torch.double)
    for _ in range(2):
        torch.testing.assert_close(gpt2(vectors, caches_of(gpt2)), gpt2(vectors))


def test_there_is_no_place_beyond_the_context(gpt2):
    assert gpt2(torch.zeros(1, PLACES, WIDTH, dtype=torch.double)).isfinite().all()
    with pytest.raises(IndexError):
        gpt2(torch.zeros(1, PLACES + 1, WIDTH, dtype=torch.double))
    caches = caches_of(gpt2)
    gpt2(torch.zeros(1, PLACES, WIDTH, dtype=torch.double), caches)
    with pytest.raises(IndexError):
        gpt2(torch.zeros(1, 1, WIDTH, dtype=torch.double), caches)


def test_the_order_matters(gpt2):
    vectors = torch.randn(1, 3, WIDTH, dtype=torch.double)
    assert not torch.allclose(gpt2(vectors)[:, -1], gpt2(vectors[:, [1, 0, 2]])[:, -1])


@pytest.mark.parametrize("num_layers", [1, 2, 6])
def test_first_weights_are_small_and_smaller_where_a_branch_ends(num_layers):
    gpt2 = GPT2(128, num_layers, 4, 64, 0.1)
    ends = [block.attention.output.weight for block in gpt2.blocks] + [block.mlp[-1].weight for block in gpt2.blocks]
    others = [weight for weight in gpt2.parameters() if weight.ndim == 2 and not any(weight is end for end in ends)]
    assert len(others) == 2 * num_layers + 1
    for weights, wanted in ((ends, 0.02 / sqrt(2 * num_layers)), (others, 0.02)):
        for weight in weights:
            assert weight.std().item() == pytest.approx(wanted, rel=0.05)
            assert abs(weight.mean().item()) < 0.05 * wanted
    for name, weight in gpt2.named_parameters():
        if weight.ndim == 1:
            assert (weight == (0 if name.endswith("bias") else 1)).all()


def test_dropout_is_for_training_only():
    gpt2, vectors = GPT2(WIDTH, 2, 2, PLACES, dropout=0.5), torch.randn(2, 5, WIDTH)
    assert not torch.equal(gpt2(vectors), gpt2(vectors))
    assert torch.equal(gpt2.eval()(vectors), gpt2(vectors))
    still = GPT2(WIDTH, 2, 2, PLACES, dropout=0.0)
    assert torch.equal(still(vectors), still(vectors))


def test_attention_is_dropped_in_training_as_well():
    attention, hidden = SelfAttention(WIDTH, 2, 0.5), torch.randn(2, 5, WIDTH)
    assert not torch.equal(attention(hidden), attention(hidden))
    assert torch.equal(attention.eval()(hidden), attention(hidden))


# Fusions --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def parts():
    return [torch.randn(ITEMS, size) for size in WIDTHS]


def test_concat_begins_as_the_identity(parts):
    assert torch.equal(Concat(WIDTHS, sum(WIDTHS))(parts), torch.cat(parts, dim=1))


@torch.no_grad()
def test_add_is_concat_with_the_blocks_of_its_matrix(parts):
    add, concat = shaken(Add(WIDTHS, 6)), Concat(WIDTHS, 6)
    concat.linear.weight.copy_(torch.cat([one.weight for one in add.projections], dim=1))
    concat.linear.bias.copy_(sum(one.bias for one in add.projections))
    torch.testing.assert_close(add(parts), concat(parts))


@torch.no_grad()
def test_weighted_is_add_until_its_weights_move_and_they_sum_to_the_number_of_modalities():
    dims = (5, 3, 4)
    parts = [torch.randn(ITEMS, size) for size in dims]
    add, weighted = shaken(Add(dims, 6)), Weighted(dims, 6)
    weighted.load_state_dict(add.state_dict() | {"weights": weighted.weights})
    torch.testing.assert_close(weighted(parts), add(parts))
    weighted.weights.copy_(torch.tensor([1.0, -1.0, 0.3]))
    shares = weighted.project(parts) / add.project(parts)
    own = shares.mean(dim=(1, 2))
    torch.testing.assert_close(shares, own[:, None, None].expand_as(shares))
    assert own.sum().item() == pytest.approx(3, rel=1e-5)
    assert own[0] > own[2] > own[1] > 0


@torch.no_grad()
def test_cross_attention_is_the_formula_item_by_item(parts):
    fusion = shaken(CrossAttention(WIDTHS, 6), 0.5)
    found = fusion(parts)
    for item in range(ITEMS):
        own = torch.stack([one(part[item]) for one, part in zip(fusion.projections, parts, strict=True)])
        query, key, value = (own @ fusion.attention.in_proj_weight.T + fusion.attention.in_proj_bias).split(6, dim=1)
        taken = (query @ key.T / sqrt(6)).softmax(1) @ value
        torch.testing.assert_close(found[item], (own + fusion.attention.out_proj(taken)).sum(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_an_items_vector_depends_on_no_other_item(fusion, parts):
    fusion = shaken(FUSIONS[fusion](WIDTHS, 6))
    before = fusion(parts)
    for part in parts:
        part[4:] += 1
    after = fusion(parts)
    torch.testing.assert_close(before[:4], after[:4])
    assert ((before[4:] - after[4:]).abs().amax(1) > 1e-3).all()
    torch.testing.assert_close(fusion([part[2:3] for part in parts]), before[2:3])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_modality_counts_from_the_start(fusion, parts):
    for part in parts:
        part.requires_grad_()
    fusion = FUSIONS[fusion](WIDTHS, sum(WIDTHS))
    fusion(parts).square().sum().backward()
    assert all((part.grad.abs().amax(1) > 0).all() for part in parts)
    assert all(weight.grad.any() for name, weight in fusion.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("dim", [3, 4, 7])
def test_one_modality_alone_is_enough(fusion, dim):
    part = torch.randn(ITEMS, 4, requires_grad=True)
    found = FUSIONS[fusion]((4,), dim)([part])
    assert found.shape == (ITEMS, dim)
    found.square().sum().backward()
    assert part.grad.any()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_three_modalities_are_welcome(fusion):
    found = FUSIONS[fusion]((2, 3, 4), 6)([torch.randn(ITEMS, size) for size in (2, 3, 4)])
    assert found.shape == (ITEMS, 6)


# Item vectors ---------------------------------------------------------------------------------------------------------


def tokens_of(parts=None, fusion="add", id_embeddings=None):
    """Of the parts, or a free vector of each item; in double precision, with noise on all that learns."""
    made = FUSIONS[fusion](WIDTHS, WIDTH) if parts is not None else None
    return shaken(ItemEmbedding(WIDTH, parts, made, id_embeddings), 0.5).double()


def learning(module):
    return {name for name, weight in module.named_parameters() if weight.requires_grad}


def test_the_start_token_is_the_last_row(parts):
    tokens = tokens_of(parts)
    vectors = tokens()
    assert vectors.shape == (START, WIDTH)
    assert torch.equal(vectors[-1:], tokens.special_token)
    assert torch.equal(vectors[:-1], tokens.fusion([part.double() for part in parts]))


def test_free_vectors_are_alone_or_added(parts):
    free = torch.randn(ITEMS, WIDTH)
    assert torch.equal(ItemEmbedding(WIDTH, id_embeddings=free)()[:-1], free)
    fusion = Add(WIDTHS, WIDTH)
    torch.testing.assert_close(ItemEmbedding(WIDTH, parts, fusion, free)()[:-1], fusion(parts) + free)


def test_an_item_of_which_nothing_is_known_is_refused():
    with pytest.raises(ValueError, match="needs features or an ID embedding"):
        ItemEmbedding(WIDTH)


def test_features_do_not_learn_but_move_with_the_rest(parts):
    tokens = ItemEmbedding(WIDTH, parts, Add(WIDTHS, WIDTH))
    assert learning(tokens) == {
        "special_token",
        "bias",
        *(f"fusion.projections.{n}.{kind}" for n in (0, 1) for kind in ("weight", "bias")),
    }
    tokens().square().sum().backward()
    assert not list(tokens.features.parameters())
    assert tokens.special_token.grad.any()
    assert tokens.double()().dtype == torch.double
    for part, given in zip(tokens.features.buffers(), parts, strict=True):
        assert torch.equal(part, given.double())
    stored = ItemEmbedding(WIDTH, parts, Add(WIDTHS, WIDTH)).state_dict()
    assert torch.equal(stored["features.0"], parts[0])  # its name since systems are saved


def test_an_item_that_nobody_bought_learns_from_the_others(parts):
    """What is read moves the fusion, and with it the vector of an item that is not read; a free vector stays."""
    inputs = torch.tensor([[START, 1, 2, 3], [START, 4, 5, 6]])
    gpt2, wanted = shaken(GPT2(WIDTH, 1, 2, PLACES, 0.1)).double().eval(), torch.randn(WIDTH, dtype=torch.double)
    for tokens in (tokens_of(parts), tokens_of(id_embeddings=torch.randn(ITEMS, WIDTH))):
        decoder, before = ItemDecoder(tokens, gpt2), tokens().detach()
        (decoder.hidden_states(inputs, tokens()) - wanted).square().sum().backward()
        with torch.no_grad():
            for weight in tokens.parameters():
                if weight.grad is not None:
                    weight.sub_(0.1 * weight.grad)
        moved = (tokens() - before).abs().amax(1) > 1e-6
        assert moved[:6].all()
        assert moved[6:ITEMS].tolist() == [isinstance(tokens.id_embeddings, int)] * 3


# The decoder ----------------------------------------------------------------------------------------------------------


def rows():
    """(5, PLACES) items after the start token, of all lengths, padded with 0 at the right."""
    items = torch.randint(1, ITEMS + 1, (5, PLACES))
    items[:, 0] = START
    return items * (torch.arange(PLACES) < torch.tensor([10, 1, 4, 7, 9])[:, None])


@pytest.fixture
def decoder(parts):
    return ItemDecoder(tokens_of(parts), shaken(GPT2(WIDTH, 2, 2, PLACES, 0.1), 0.3).double()).eval()


@torch.no_grad()
def test_a_score_is_the_product_with_the_items_vector_and_its_bias(decoder):
    inputs, vectors = rows(), decoder.item_embedding()
    scores = decoder(inputs)
    assert scores.shape == (5, PLACES, ITEMS)
    read = torch.stack([torch.stack([vectors[max(item, 1) - 1] for item in row]) for row in inputs.tolist()])
    hidden = decoder.gpt2(read)
    torch.testing.assert_close(decoder.hidden_states(inputs, vectors), hidden)
    for item in range(1, ITEMS + 1):
        wanted = (hidden * vectors[item - 1]).sum(2) + decoder.item_embedding.bias[item - 1]
        torch.testing.assert_close(scores[:, :, item - 1], wanted)


@torch.no_grad()
def test_every_item_read_counts_and_so_does_the_start_token(decoder):
    inputs = torch.tensor([[START, 3, 4]])
    before = decoder(inputs)[0, -1]
    for place, other in ((0, 5), (1, 7), (2, START)):
        changed = inputs.clone()
        changed[0, place] = other
        assert (decoder(changed)[0, -1] - before).abs().max() > 1e-4


@torch.no_grad()
def test_padding_at_the_right_changes_no_score_before_it(decoder):
    inputs = rows()
    together = decoder(inputs)
    for row, scores in zip(inputs, together, strict=True):
        length = int((row > 0).sum())
        torch.testing.assert_close(decoder(row[None, :length])[0], scores[:length])


@pytest.mark.parametrize("sizes", [[1] * PLACES, [4, 1, 1, 4], [9, 1]])
@pytest.mark.parametrize("tie_weights", [True, False])
@torch.no_grad()
def test_scores_in_pieces_are_those_at_once(decoder, tie_weights, sizes):
    decoder = ItemDecoder(decoder.item_embedding, decoder.gpt2, tie_weights)
    inputs, caches = rows(), caches_of(decoder.gpt2)
    pieces = [decoder(piece, caches) for piece in inputs.split(sizes, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), decoder(inputs))


def test_untied_begins_as_tied_and_then_goes_its_own_way(decoder):
    free = ItemDecoder(decoder.item_embedding, decoder.gpt2, tie_weights=False)
    inputs = rows()
    before, vectors = decoder(inputs).detach(), decoder.item_embedding().detach()
    torch.testing.assert_close(free(inputs), before)
    assert learning(free) - learning(decoder) == {"free_outputs"}
    hidden = free.hidden_states(inputs, vectors).detach()
    with torch.no_grad():
        free.free_outputs[2] += 1
    moved = (free(inputs) - before).abs().amax((0, 1))
    assert (moved > 1e-6).tolist() == [item == 2 for item in range(ITEMS)]
    assert torch.equal(free.hidden_states(inputs, vectors), hidden)
    assert torch.equal(decoder(inputs), before)
    assert torch.equal(decoder.item_embedding(), vectors)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_both_ends_teach_the_item_vectors_where_they_are_tied_and_one_where_not(decoder, tie_weights):
    """The gradient of item 9, which is a possible answer but is not read."""
    tokens = tokens_of(id_embeddings=torch.randn(ITEMS, WIDTH))
    decoder = ItemDecoder(tokens, decoder.gpt2, tie_weights)
    cross_entropy(decoder(torch.tensor([[START, 1, 2]])).flatten(0, 1), torch.tensor([1, 2, 3])).backward()
    assert tokens.id_embeddings.grad[:2].any(dim=1).all()
    assert bool(tokens.id_embeddings.grad[8].any()) == tie_weights
    assert tokens.bias.grad.all()


@torch.no_grad()
def test_items_of_equal_features_are_told_apart_by_bias_or_free_vector_alone(decoder, parts):
    for part in parts:
        part[6] = part[2]
    for free in (None, torch.randn(ITEMS, WIDTH)):
        decoder.item_embedding = tokens_of(parts, id_embeddings=free)
        nn.init.zeros_(decoder.item_embedding.bias)
        scores, inputs = decoder(rows()), torch.tensor([[START, 3], [START, 7]])
        assert torch.allclose(scores[..., 2], scores[..., 6]) == (free is None)
        assert torch.allclose(*decoder(inputs)) == (free is None)
        assert not torch.allclose(scores[..., 2], scores[..., 5])
    decoder.item_embedding = tokens_of(parts)
    nn.init.zeros_(decoder.item_embedding.bias)
    decoder.item_embedding.bias[6] = 1.5
    scores = decoder(rows())
    torch.testing.assert_close(scores[..., 6], scores[..., 2] + 1.5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_small_world_is_learnt_with_each_fusion(fusion, parts):
    """Item i is followed by item i + 1: after some steps each is named right."""
    tokens = ItemEmbedding(WIDTH, parts, FUSIONS[fusion](WIDTHS, WIDTH))
    decoder = ItemDecoder(tokens, GPT2(WIDTH, 1, 2, PLACES, dropout=0.0))
    circle = torch.arange(ITEMS).repeat(2).unfold(0, PLACES - 1, 1)[:ITEMS] + 1
    optimizer = torch.optim.Adam([weight for weight in decoder.parameters() if weight.requires_grad], 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        cross_entropy(decoder(circle[:, :-1]).flatten(0, 1), circle[:, 1:].flatten() - 1).backward()
        optimizer.step()
    named = decoder.eval()(circle[:, :-1]).argmax(2) + 1
    assert (named == circle[:, 1:]).double().mean() > 0.95


# Reasons --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_layers", "num_heads"), [(1, 1), (2, 4), (3, 2)])
@torch.no_grad()
def test_the_last_look_is_the_librarys_attention(num_layers, num_heads):
    sizes = {
        "n_positions": PLACES,
        "n_embd": WIDTH,
        "n_layer": num_layers,
        "n_head": num_heads,
        "attn_implementation": "eager",
    }
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=7, **sizes, **NO_DROPOUT))
    theirs = shaken(theirs, 0.5).eval().double()
    ours = load_gpt2(theirs.state_dict(), num_heads)[0].eval().double()
    vectors = torch.randn(1, 6, WIDTH, dtype=torch.double)
    wanted = theirs.transformer(inputs_embeds=vectors, output_attentions=True).attentions[-1]  # (1, H, T, T)
    close(last_attention(ours, vectors), wanted[0, :, -1].mean(0))


@torch.no_grad()
def test_reasons_are_what_is_lost_without_each_item_while_the_others_keep_their_positions():
    decoder = shaken(
        ItemDecoder(ItemEmbedding(WIDTH, id_embeddings=torch.randn(ITEMS, WIDTH)), GPT2(WIDTH, 2, 2, PLACES, 0.1)), 0.3
    ).eval()
    history = [4, 1, 9, 4]
    weights, falls, recommended = reasons(decoder, history)
    log_p = decoder(torch.tensor([[START, *history]]))[0, -1].log_softmax(0)
    assert recommended == int(log_p.argmax()) + 1
    vectors, outputs = decoder.item_embedding(), decoder.output_embeddings(decoder.item_embedding())
    for out in range(1, len(history) + 1):
        kept = [position for position in range(len(history) + 1) if position != out]
        hidden = vectors[[[START, *history][position] - 1 for position in kept]] + decoder.gpt2.positions.weight[kept]
        hidden = hidden[None]
        for block in decoder.gpt2.blocks:
            hidden = block(hidden)
        scores = decoder.gpt2.norm(hidden)[0, -1] @ outputs.T + decoder.item_embedding.bias
        fall = log_p[recommended - 1] - scores.log_softmax(0)[recommended - 1]
        assert falls[out - 1] == pytest.approx(float(fall), abs=1e-5)
    assert weights.shape == (4,)
    assert 0 < weights.sum() < 1  # the rest is the BOS token's


@torch.no_grad()
def test_positions_are_counted_from_0_unless_they_are_given(gpt2):
    vectors = torch.randn(2, 3, WIDTH, dtype=torch.double)
    torch.testing.assert_close(gpt2(vectors, at=torch.arange(3)), gpt2(vectors))
    assert not torch.allclose(gpt2(vectors, at=torch.tensor([0, 1, 3])), gpt2(vectors))
