"""fidelity.py: by hand on small sets; the shop's users by what its truth says."""

import numpy as np
import pytest

from mmrec_helpers.evaluation import fidelity as f
from mmrec_helpers.pocket_shop.shop import load_shop

RED, BLUE, STEEL, PARTY = ("colour", "red"), ("colour", "blue"), ("material", "steel"), ("occasion", "party")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return load_shop(0, "tiny", cache=tmp_path_factory.mktemp("shop"), missing_images=1)


def test_attributes_are_those_of_a_taste_that_a_text_mentions():
    assert f.attributes_in("They like red, steel. They buy mugs for parties by Redfield.") == {RED, STEEL, PARTY}
    assert f.attributes_in("a mug") == set()
    assert f.asserted_in("They like colour red maybe, material steel clearly, occasion party. They buy cap.") == {
        STEEL,
        PARTY,
    }
    assert f.attributes_of([["red", ""], ["steel"]]) == [[{RED}, set()], [{STEEL}]]
    assert f.attributes_of([["colour red maybe", "colour red"]], f.asserted_in) == [[set(), {RED}]]


def test_true_attributes_change_at_the_change_point_and_nowhere_else(shop):
    dataset, truth = shop
    lengths = np.bincount(dataset.interactions["user"])
    for user, length in zip(dataset.user_ids[:60], lengths, strict=False):
        point = truth.change_point(user) or length
        steps = [f.true_attributes(truth, user, step) for step in range(length)]
        assert all(step == steps[0] for step in steps[:point])
        assert all(step == steps[-1] for step in steps[point:])
        assert {name for step in steps for name, _ in step} <= set(f.ATTRIBUTES)


def test_users_by_change_are_of_two_groups_with_long_histories(shop):
    dataset, truth = shop
    changed, stable, change = f.users_by_change(dataset, truth, 10, range(4, 8), 12)
    lengths = np.bincount(dataset.interactions["user"])
    assert min(len(changed), len(stable)) > 3
    assert max(len(changed), len(stable)) <= 12
    assert all(lengths[user] > 10 for user in (*changed, *stable))
    assert all(truth.change_point(dataset.user_ids[user]) == change[user] in range(4, 8) for user in changed)
    assert all((truth.change_point(dataset.user_ids[user]) or 99) >= 10 == change[user] for user in stable)


def test_described_counts_true_and_other_values():
    facts = [{"category": "mug", "colour": "red", "pattern": "plain", "style": "modern", "material": "steel",
              "occasion": "gift"}] * 4  # fmt: skip
    table = f.described(["modern red mug", "red or blue mug", "", "blue lamp"], facts)
    assert table.loc["colour"].tolist() == [0.5, 0.5]  # a text with both counts twice
    assert table.loc["category"].tolist() == [0.5, 0.25]
    assert table.loc["style"].tolist() == [0.25, 0]
    assert table.loc["occasion"].tolist() == [0, 0]


def test_counted_is_the_commonest_value_that_two_fifths_share():
    assert f.counted(["a red mug", "a red cap", "a blue steel cap"]) == {RED}
    assert f.counted(["a red mug", "a blue steel cap"]) == set()
    many = ["red"] * 3 + ["blue"] * 4 + ["steel"] * 3 + [""] * 0
    assert f.counted(many) == {BLUE}  # of ten, three are too few
    assert f.counted([]) == set()


def test_fidelity_by_hand():
    table = f.fidelity([{RED, STEEL}, {RED}, set(), set()], [{RED, BLUE, PARTY}, {STEEL}, {RED}, set()])
    np.testing.assert_allclose(table["precision"], [0.5, 0, np.nan, np.nan])
    np.testing.assert_allclose(table["recall"], [1 / 3, 0, 0, np.nan])
    np.testing.assert_allclose(table["F1"], [0.4, 0, 0, 1])
    p, r = table[["precision", "recall"]].iloc[0]
    assert np.isclose(table["F1"][0], 2 * p * r / (p + r))


def test_a_table_has_the_means_of_each_summariser():
    true = [{RED, STEEL}, {BLUE}]
    table = f.fidelity_table({"half": [{RED}, set()], "all": true}, true)
    assert table.loc["half"].to_dict() == {"users": 0.5, "precision": 1, "recall": 0.25, "F1": pytest.approx(1 / 3)}
    assert (table.loc["all"] == 1).all()


def test_hallucinated_attributes_are_in_no_item():
    histories = [["a red mug", "a steel mug"], ["a red mug"]]
    assert f.hallucinated([{RED, STEEL}, {RED}], histories) == 0
    assert f.hallucinated([{RED, BLUE}, {STEEL}], histories) == pytest.approx(2 / 3)
    assert f.hallucinated([set(), set()], histories) == 0


def test_survival_and_persistence():
    steps = [[{RED, STEEL}, {RED}, {BLUE}], [{PARTY}, {PARTY}, {PARTY}]]
    true = [[{RED}] * 3, [set()] * 3]
    kept = f.survival(steps, true)
    assert kept["correct"] == 0.5  # red stays once, then leaves
    assert kept["false"] == pytest.approx(2 / 3)  # steel leaves, party stays twice
    assert f.persistence([{RED, BLUE}, {PARTY}], steps) == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    assert f.persistence([{STEEL}, {RED}], steps) == [0.5, 0, 0]


def test_agreement():
    np.testing.assert_allclose(f.agreement([{RED}, {RED, STEEL}, set()], [{BLUE}, {RED}, set()]), [0, 0.5, 1])


STEPS = [[{RED}, {RED, STEEL}, {BLUE}, {BLUE, STEEL}], [{RED}, {RED}, {RED}, {RED}]]
BEFORE, AFTER = [{RED, STEEL}, {RED}], [{BLUE, STEEL}, {BLUE}]
PASSED = np.array([[-1, 2, 5, 8], [-3, 0, 3, 6]])


def test_a_drift_curve_counts_what_has_changed_by_whole_blocks():
    curve = f.drift_curve(STEPS, BEFORE, AFTER, PASSED)
    assert curve.index.tolist() == [-3, 0, 3, 6, 9]
    np.testing.assert_allclose(curve["new"], [0, 0, 0, 0.5, 1])
    np.testing.assert_allclose(curve["old"], [1, 1, 1, 0.5, 0])


def test_a_delay_is_that_of_the_first_summary_nearer_to_the_new_taste():
    assert f.delays(STEPS, BEFORE, AFTER, PASSED).tolist() == [5, np.inf]
    early = [[{BLUE}, {RED}, {RED}, {BLUE}]]  # nearer before the change, which does not count
    assert f.delays(early, [{RED}], [{BLUE}], PASSED[:1]).tolist() == [8]
