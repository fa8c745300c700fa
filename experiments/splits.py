"""Splits that only the records need: folds of users, and a category that nobody learns from."""

import numpy as np

from mmrec_helpers.data.dataset import CONTEXT, TEST, TRAIN, UNUSED, VALID, RecDataset, Split


def user_folds(dataset: RecDataset, num_folds: int = 5, seed: int = 0) -> list[Split]:
    """Split the users into folds. Split f tests on the last interaction of fold f, validates on that of fold f + 1.

    The earlier interactions of both are context: histories of the queries, not for training.

    Raises:
        ValueError: fewer than three folds leave no user to train on.
    """
    if num_folds < 3:
        raise ValueError(
            f"{num_folds} folds leave no user to train on: one is for testing, one for validation; take 3 or more"
        )
    order = np.random.default_rng(seed).permutation(dataset.num_users)
    fold_of = np.empty(dataset.num_users, int)
    fold_of[order] = np.arange(dataset.num_users) % num_folds
    fold = fold_of[dataset.interactions["user"]]
    splits = []
    for test in range(num_folds):
        valid = (test + 1) % num_folds
        part = np.full(dataset.num_interactions, TRAIN)
        for held_out, code in ((test, TEST), (valid, VALID)):
            part[fold == held_out] = np.where(dataset.from_end[fold == held_out] == 0, code, CONTEXT)
        splits.append(Split(dataset, part, f"fold {test + 1} of {num_folds}"))
    return splits


def held_out_category(dataset: RecDataset, category: str) -> Split:
    """Test on a category that is not in the training part.

    Tests on each user's first interaction with the category; the user's later interactions are unused, because
    they are the future. Validates on the last interaction of users without interactions with the category.

    Raises:
        ValueError: the category does not exist.
    """
    categories = dataset.column("category")
    if category not in categories[1:]:
        names = ", ".join(sorted({str(name) for name in categories[1:]}))
        raise ValueError(f"{dataset.name} has no category {category!r}; it has {names}")
    user = dataset.interactions["user"].to_numpy()
    held_out = categories[dataset.interactions["item"].to_numpy()] == category
    row = np.arange(len(user))
    first = np.full(dataset.num_users, len(user))  # (U,) row of the first interaction with the category
    np.minimum.at(first, user[held_out], row[held_out])
    part = np.where(row < first[user], TRAIN, UNUSED)
    part[first[first < len(user)]] = TEST
    part[(first[user] == len(user)) & (dataset.from_end == 0)] = VALID
    return Split(dataset, part, f"unseen category {category}")
