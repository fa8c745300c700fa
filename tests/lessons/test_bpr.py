"""Chapter 3's factorizations: pairs, all items at once, and the formula as a loop give the same scores."""

import numpy as np
import pytest
import torch

from mmrec_helpers.lessons.bpr import Factors, FactorsWithFeatures

USERS, ITEMS, DIM = 3, 5, 2


@pytest.fixture(params=["Factors", "FactorsWithFeatures"])
def model(request):
    torch.manual_seed(0)
    network = Factors(USERS, ITEMS, DIM)
    if request.param == "FactorsWithFeatures":
        network = FactorsWithFeatures(network, torch.randn(ITEMS + 1, 4), 3)
    for weight in network.parameters():
        torch.nn.init.normal_(weight)
    return network


def score(model, user, item):
    """The formula with the numbers of one user and one item."""
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    base = "base." if isinstance(model, FactorsWithFeatures) else ""
    users, items = weights[f"{base}users.weight"], weights[f"{base}items.weight"]
    result = weights[f"{base}bias"][item] + sum(users[user, d] * items[item, d] for d in range(DIM))
    if base:
        features = model.features[item].numpy()
        mapped = [row @ features for row in weights["projection.weight"]]
        result += weights["feature_users.weight"][user] @ mapped + weights["feature_bias"] @ features
    return result


def test_scores_are_those_of_the_formula(model):
    users, items = torch.tensor([0, 2, 1]), torch.tensor([5, 1, 3])
    expected = [score(model, int(user), int(item)) for user, item in zip(users, items, strict=True)]
    assert np.allclose(model(users, items).detach(), expected, atol=1e-5)


def test_embeddings_score_all_items(model):
    users, items, bias = (part.detach().numpy() for part in model.embeddings())
    expected = [[score(model, user, item) for item in range(ITEMS + 1)] for user in range(USERS)]
    assert np.allclose(users @ items.T + bias, expected, atol=1e-5)


def test_no_feature_is_saved_with_the_weights():
    network = FactorsWithFeatures(Factors(USERS, ITEMS, DIM), torch.randn(ITEMS + 1, 4), 3)
    assert "features" not in network.state_dict()
