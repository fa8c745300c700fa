"""fidelity.py: by hand on a few texts."""

from mmrec_helpers.evaluation.fidelity import described


def test_described_counts_true_and_other_values():
    facts = [{"category": "mug", "colour": "red", "pattern": "plain", "style": "modern", "material": "steel",
              "occasion": "gift"}] * 4  # fmt: skip
    table = described(["modern red mug", "red or blue mug", "", "blue lamp"], facts)
    assert table.loc["colour"].tolist() == [0.5, 0.5]  # a text with both counts twice
    assert table.loc["category"].tolist() == [0.5, 0.25]
    assert table.loc["style"].tolist() == [0.25, 0]
    assert table.loc["occasion"].tolist() == [0, 0]
