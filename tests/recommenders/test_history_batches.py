"""history_batches.py: every user once an epoch, cut at a random item; samples of users; ties in time."""

from dataclasses import replace

import numpy as np

from mmrec_helpers.recommenders.history_batches import HistoryBatches


def training_items(split):
    """User -> training items."""
    return {user: items.to_numpy() for user, items in split.interactions("train").groupby("user")["item"]}


def test_a_batch_has_each_users_items_up_to_the_target_and_every_user_once_an_epoch(planted):
    items = training_items(planted)
    batches, seen = HistoryBatches(planted, 7, 0), []
    for step in range(batches.per_epoch):
        batch = batches.of(step)
        for user, history, target in zip(batch.users, batch.histories, batch.targets, strict=True):
            assert np.array_equal([*history, target], items[user][: len(history) + 1])
        seen += [*batch.users]
    assert sorted(seen) == sorted(items)


def test_fewer_users_are_a_sample_that_every_epoch_visits(planted):
    some, others = HistoryBatches(planted, 7, 0, max_users=10), HistoryBatches(planted, 7, 1, max_users=10)
    epochs = [sorted(np.concatenate([some.of(step).users for step in steps])) for steps in ((0, 1), (2, 3))]
    assert epochs[0] == epochs[1] == sorted(set(some.users))
    assert some.per_epoch == 2
    assert len(some.users) == 10
    assert set(some.users) != set(others.users)


def test_ties_in_time_have_another_order_in_each_epoch(planted):
    tied = replace(planted, has_tie_order=False)
    frame = planted.dataset.interactions
    dataset = replace(planted.dataset, interactions=frame.assign(time=frame["time"].iloc[0]))
    batches, items = HistoryBatches(replace(tied, dataset=dataset), 7, 0), training_items(planted)
    orders = [batches.items_of(epoch) for epoch in (0, 1)]
    assert any(not np.array_equal(orders[0][user], orders[1][user]) for user in items)
    for order in orders:
        assert all(np.array_equal(np.sort(order[user]), np.sort(items[user])) for user in items)
