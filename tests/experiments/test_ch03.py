"""Chapter 3's cells: what a SASRec says of its first item."""

import numpy as np
import pytest
import torch

from experiments.ch03 import first_item_confidence
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.sasrec import SASRec


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_confidence_is_the_probability_of_the_first_item(loss):
    split = load_shop(size="tiny")[0].leave_one_out()
    system = SASRec(loss=loss, epochs=1, dim=8, num_layers=1).fit(split)
    found, queries = first_item_confidence(system, split), split.queries("test")
    scores = torch.as_tensor(system.score(queries))[:, 1:].double()
    probabilities = scores.softmax(dim=1) if loss == "ce" else scores.sigmoid()
    np.testing.assert_allclose(found["confidence"], probabilities.max(dim=1).values, atol=5.1e-5)  # four digits
    assert np.array_equal(found["first is next"], scores.argmax(dim=1).numpy() + 1 == queries.targets[:, 0])
    assert found["first is next"].dtype == float
    if loss == "bce":
        assert found["confidence"].mean() > 3 * found["first is next"].mean()  # the overconfidence of the chapter
