"""Chapter 2's losses, controls and metrics: equal to brute force and to the library, and what must not move them."""

import re

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import normalize

from mmrec_helpers.lessons.overlap import (
    auc,
    bags_of_words,
    caption_of,
    caption_swap_accuracy,
    compare_with_controls,
    control_partners,
    info_nce,
    probe_correct,
    recall_at_k,
    sigmoid_loss,
    truncate_texts,
)

LAYERS = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
ENDS = {"bos_token_id": 0, "eos_token_id": 19, "pad_token_id": 1}
PARTS = {
    "text_config": LAYERS | ENDS | {"vocab_size": 20, "max_position_embeddings": 6},
    "vision_config": LAYERS | {"image_size": 8, "patch_size": 4},
}
FACTS = {
    "style": "rustic",
    "colour": "red",
    "pattern": "plain",
    "category": "mug",
    "material": "steel",
    "occasion": "gift",
}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def pairs(rng):
    return torch.from_numpy(rng.normal(size=(2, 7, 5))).float()


# Losses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
def test_info_nce_is_the_mean_negative_log_likelihood(pairs, temperature):
    matrix = (normalize(pairs[0]) @ normalize(pairs[1]).T).double().numpy() / temperature
    nll = [np.log(np.exp(row).sum()) - row[i] for m in (matrix, matrix.T) for i, row in enumerate(m)]
    assert info_nce(*pairs, temperature).item() == pytest.approx(np.mean(nll), rel=1e-4)


@pytest.mark.parametrize(("scale", "bias"), [(1, 0), (10, -10), (5, 3)])
def test_sigmoid_loss_is_the_sum_over_pairs_a_picture(pairs, scale, bias):
    matrix = (normalize(pairs[0]) @ normalize(pairs[1]).T).double().numpy()
    signs = 2 * np.eye(7) - 1
    wanted = np.log1p(np.exp(-signs * (scale * matrix + bias))).sum() / 7
    assert sigmoid_loss(*pairs, scale, bias).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_losses_are_those_of_the_library(kind):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**PARTS)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    inputs = {"input_ids": torch.randint(2, 19, (4, 6)), "pixel_values": torch.randn(4, 3, 8, 8)}
    with torch.no_grad():
        out = model(**inputs, return_loss=True)
        scale = model.logit_scale.exp()
        vectors = out.image_embeds, out.text_embeds
        mine = info_nce(*vectors, 1 / scale) if kind == "CLIP" else sigmoid_loss(*vectors, scale, model.logit_bias)
    assert torch.allclose(mine, out.loss, atol=1e-5)


def test_losses_do_not_feel_the_length_of_vectors(pairs):
    assert torch.allclose(info_nce(*pairs, 0.1), info_nce(3 * pairs[0], pairs[1], 0.1), atol=1e-5)
    assert torch.allclose(sigmoid_loss(*pairs, 5, -5), sigmoid_loss(3 * pairs[0], pairs[1], 5, -5), atol=1e-5)


def test_perfect_pairs_cost_nothing_and_wrong_pairs_much():
    eye = torch.eye(5)
    assert info_nce(eye, eye, 0.05) < 1e-3 < 5 < info_nce(eye, eye.roll(1, 0), 0.05)
    assert sigmoid_loss(eye, eye, 40, -20) < 1e-3 < 5 < sigmoid_loss(eye, eye.roll(1, 0), 40, -20)


@pytest.mark.parametrize("loss", [lambda a, b: info_nce(a, b, 1.0), lambda a, b: sigmoid_loss(a, b, 1.0, 0.0)])
def test_losses_refuse_what_is_no_pairs(loss):
    with pytest.raises(ValueError, match="3 images, 2 texts"):
        loss(torch.ones(3, 4), torch.ones(2, 4))


# Controls and metrics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [np.zeros(50), np.arange(50) % 7, np.array(["a", "b"] * 25)])
def test_partners_are_others_of_the_same_group_and_serve_once(groups):
    partners = control_partners(groups)
    assert (partners != np.arange(50)).all()
    assert (groups[partners] == groups).all()
    assert sorted(partners) == list(range(50))


def test_who_is_alone_has_no_partner():
    assert control_partners(["a", "b", "a"]).tolist() == [2, -1, 0]
    assert control_partners([1, 2, 3]).tolist() == [-1, -1, -1]


def test_partners_follow_the_seed():
    one, same, other = (control_partners(np.zeros(60), seed) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_auc_equals_counting_every_pair(rng):
    a, b = rng.integers(0, 9, 30), rng.integers(0, 7, 40)
    assert auc(a, b) == pytest.approx(np.mean([(x > y) + (x == y) / 2 for x in a for y in b]))
    assert auc(a, b) == pytest.approx(1 - auc(b, a))
    assert auc(np.exp(a), np.exp(b)) == pytest.approx(auc(a, b))  # the order alone counts
    assert (auc([2, 3], [0, 1]), auc([1], [1])) == (1.0, 0.5)


def test_recall_rises_with_k_and_shares_ties(rng):
    similarity = rng.normal(size=(20, 20))
    found = [recall_at_k(similarity, k) for k in range(1, 21)]
    assert found == sorted(found)
    assert found[-1] == 1
    places = [sorted(-row).index(-row[i]) for i, row in enumerate(similarity)]
    assert found[4] == pytest.approx(np.mean(np.array(places) < 5))
    assert recall_at_k(np.zeros((8, 8)), 2) == pytest.approx(2 / 8)


def test_comparison_names_what_there_is_and_its_intervals_hold_the_value(rng):
    similarity = rng.normal(size=(60, 60)) + 2 * np.eye(60)
    partners = {"random": control_partners(np.zeros(60)), "nobody": control_partners(np.arange(60))}
    table = compare_with_controls(similarity, partners)
    assert list(table) == ["matched", "random"]
    mean, low, high, area, area_low, area_high = table["random"]
    other = similarity[np.arange(60), partners["random"]]
    assert mean == pytest.approx(other.mean())
    assert low < mean < high
    assert area == pytest.approx(auc(similarity.diagonal(), other))
    assert area_low < area < area_high
    assert np.isnan(table["matched"][3:]).all()


def test_lifting_all_cosines_moves_no_auc(rng):
    similarity = rng.normal(size=(30, 30))
    partners = {"random": control_partners(np.zeros(30))}
    before, after = (compare_with_controls(m, partners)["random"] for m in (similarity, 0.1 * similarity + 0.8))
    assert after[3:] == pytest.approx(before[3:])
    assert after[0] != pytest.approx(before[0])


# Captions and probes --------------------------------------------------------------------------------------------------


def test_bags_hold_the_most_frequent_words():
    bags, words = bags_of_words(["A red mug, a cap.", "the red t-shirt", "red"], max_words=2)
    assert words == ["red", "a"]
    assert bags.tolist() == [[1, 1], [1, 0], [1, 0]]


class FirstWords:
    """An encoder of texts up to four tokens, with BOS and EOS; each word is a token."""

    max_len = 4

    def tokenizer(self, text, return_offsets_mapping=False, truncation=False, max_length=None, verbose=True):
        words = list(re.finditer(r"\S+", text))[: max_length - 2 if truncation else None]
        spans = [(0, 0), *((word.start(), word.end()) for word in words), (0, 0)]
        return {"input_ids": list(range(len(spans))), "offset_mapping": spans}


def test_truncated_texts_end_with_the_last_token_within_the_limit():
    lengths, kept = truncate_texts(["a red mug", "a mug"], FirstWords())
    assert lengths.tolist() == [5, 4]
    assert kept == ["a red", "a mug"]


def test_caption_says_what_is_seen_and_nothing_else():
    assert caption_of(FACTS) == "a photo of a rustic red plain mug"
    assert caption_of(FACTS, ", new") == "a photo of a rustic red plain mug, new"


def test_swaps_are_won_by_who_sees_the_attribute_and_tied_by_who_does_not():
    def embed(texts):  # sees red, and nothing else
        return torch.tensor([[1.0, 0.0] if "red" in text else [0.0, 1.0] for text in texts])

    pictures = torch.tensor([[1.0, 0.0]]).repeat(6, 1)
    assert caption_swap_accuracy(pictures, [FACTS] * 6, "colour", embed).tolist() == [1] * 6
    assert caption_swap_accuracy(pictures, [FACTS] * 6, "material", embed).tolist() == [0.5] * 6
    assert caption_swap_accuracy(-pictures, [FACTS] * 6, "colour", embed).tolist() == [0] * 6
    with pytest.raises(KeyError):
        caption_swap_accuracy(pictures, [FACTS], "taste", embed)


def test_probe_finds_what_is_there_and_nothing_where_nothing_is(rng):
    labels = rng.integers(0, 3, 300)
    told = torch.from_numpy(np.eye(3)[labels] + 0.1 * rng.normal(size=(300, 3)))
    noise = torch.from_numpy(rng.normal(size=(300, 8)))
    assert probe_correct(told, labels).mean() > 0.99
    assert probe_correct(noise, labels).mean() < 0.45
    assert probe_correct(told, np.array(["a", "b", "c"])[labels]).mean() > 0.99


def test_probe_never_fits_on_the_item_it_names(rng):
    labels = np.arange(40)  # each label once: none can be known from the others
    assert not probe_correct(torch.from_numpy(rng.normal(size=(40, 60))), labels).any()
