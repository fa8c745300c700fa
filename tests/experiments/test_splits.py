"""splits.py: folds of users and a held-out category, against what each user's rows must be."""

import pytest
from small_data import CATEGORIES, SEEDS, random_dataset, rec_dataset, rows_of

from experiments.splits import held_out_category, user_folds
from mmrec_helpers.data.dataset import CONTEXT, TEST, TRAIN, UNUSED, VALID

SMALL = rec_dataset([(0, 2, 10), (0, 1, 20), (0, 3, 30), (1, 3, 5), (1, 4, 5), (2, 4, 40)])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("num_folds", [3, 5])
def test_folds_test_every_user_once_and_never_learn_from_whom_they_ask_about(seed, num_folds):
    dataset = random_dataset(seed)
    splits = user_folds(dataset, num_folds, seed)
    assert len(splits) == num_folds
    users = {TEST: [], VALID: []}
    for split in splits:
        for user, rows in enumerate(rows_of(dataset)):
            parts = [int(split.part[row]) for row in rows]
            if not rows or parts[-1] == TRAIN:
                assert set(parts) <= {TRAIN}
            else:
                assert parts[:-1] == [CONTEXT] * (len(rows) - 1)
                users[parts[-1]].append(user)
        assert (split.part == TRAIN).any()
    tested, chosen = ([split.queries(part).users.tolist() for split in splits] for part in ("test", "valid"))
    assert chosen == tested[1:] + tested[:1]  # split f chooses on the fold that split f + 1 tests on
    with_rows = [user for user, rows in enumerate(rows_of(dataset)) if rows]
    assert sorted(users[TEST]) == with_rows
    assert sorted(users[VALID]) == with_rows


def test_folds_are_of_equal_size_and_depend_on_the_seed():
    dataset = rec_dataset([(user, 1, 5) for user in range(23)])
    sizes = [split.counts()["test"] for split in user_folds(dataset, 5)]
    assert sorted(sizes) == [4, 4, 5, 5, 5]
    again, other = user_folds(dataset, 5), user_folds(dataset, 5, seed=1)
    first = user_folds(dataset, 5)
    assert all((one.part == two.part).all() for one, two in zip(first, again, strict=True))
    assert any((one.part != two.part).any() for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("category", CATEGORIES)
def test_a_held_out_category_is_never_learnt_and_nothing_after_the_target_is_used(seed, category):
    dataset = random_dataset(seed)
    part = held_out_category(dataset, category).part
    item = dataset.interactions["item"].tolist()
    kinds = set()
    for rows in rows_of(dataset):
        held = [dataset.item(item[row])["category"] == category for row in rows]
        parts = [int(part[row]) for row in rows]
        if any(held):
            first = held.index(True)
            assert parts == [TRAIN] * first + [TEST] + [UNUSED] * (len(rows) - first - 1)
            kinds.add("met")
        elif rows:
            assert parts == [TRAIN] * (len(rows) - 1) + [VALID]
            kinds.add("never met")
    assert kinds == {"met", "never met"}


def test_an_unknown_category_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match="test has no category 'sofa'; it has desk, lamp, mug"):
        held_out_category(SMALL, "sofa")


def test_two_folds_leave_nobody_to_learn_from():
    with pytest.raises(ValueError, match="3 or more"):
        user_folds(SMALL, 2)
