"""graph.py: without layers BPR, items in any order, features of new items; what is shared is in test_contract.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmrec_helpers.recommenders.factorization import BPR
from mmrec_helpers.recommenders.graph import MGAT, MMGCN, LightGCN

SMALL = {"dim": 8, "epochs": 30, "batch_size": 64, "lr": 2e-2, "weight_decay": 0.1}
KINDS = [MMGCN, MGAT]


@pytest.mark.parametrize("kind", [LightGCN, *KINDS])
def test_items_in_another_order_have_the_same_scores_in_this_order(planted, planted_features, kind):
    order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(len(planted_features) - 1)])
    frame = planted.dataset.interactions
    moved = frame.assign(item=np.argsort(order)[frame["item"]].astype(np.int32))
    other = replace(planted, dataset=replace(planted.dataset, interactions=moved))
    models = []
    for split, features in ((planted, planted_features), (other, planted_features[order])):
        options = {"features": {"image": features}} if kind in KINDS else {}
        models.append(kind(**SMALL, **options).build_model(split))
    scores = []
    with torch.no_grad():
        for (name, weight), same in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
            weight.normal_(generator=torch.Generator().manual_seed(0))
            same.copy_(weight[order] if name in ("base.items.weight", "base.bias") else weight)
        for model in models:
            users, items, bias = model.embeddings()
            scores.append(users @ items.T + bias)
    assert torch.allclose(scores[0][:, order], scores[1], atol=1e-3)
    assert not torch.allclose(scores[0], scores[1], atol=0.1)


def test_lightgcn_without_layers_is_bpr(planted):
    queries, options = planted.queries("test"), SMALL | {"epochs": 5, "patience": 10}
    plain = BPR(**options).fit(planted).score(queries)
    assert np.allclose(LightGCN(**options, num_layers=0).fit(planted).score(queries), plain, atol=1e-3)
    assert not np.allclose(LightGCN(**options).fit(planted).score(queries), plain, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_without_interactions_is_scored_by_its_features(planted, planted_features, planted_group, kind):
    """Which shuffled features cannot do."""
    queries, advantages = planted.queries("test"), []
    shuffled = planted_features[np.concatenate([[0], 1 + np.random.default_rng(3).permutation(26)])]
    for features in (planted_features, shuffled):
        scores = kind(features={"image": features}, **SMALL).fit(planted).score(queries)
        own = planted_group[25] == queries.users % 2
        advantages.append((scores[own, 25].mean() - scores[~own, 25].mean()) / scores.std())
    assert advantages[0] > 0.5
    assert advantages[0] > advantages[1] + 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_each_modality_must_have_a_row_for_each_item(planted, planted_features, kind):
    features = {"text": planted_features, "image": planted_features[1:]}
    with pytest.raises(ValueError, match="image: the features have 26 rows, not 27"):
        kind(features=features).fit(planted)
