"""history_batches.py: every user once an epoch, cut at a random item; samples of users; ties in time."""

from dataclasses import replace

import numpy as np

from mmrec_helpers.recommenders.history_batches import HistoryBatches


def training_items(split):
    """User -> training items."""
    return {user: items.to_numpy() for user, items in split.interactions("train").groupby("user")["item"]}


def test_a_batch_has_windows_of_the_training_items_and_every_user_once_an_epoch(planted):
    items, batches, seen = training_items(planted), HistoryBatches(planted, 7, 0, max_len=3), []
    for step in range(batches.per_epoch):
        batch = batches.of(step)
        for window, last in enumerate(batch.last):
            rows = np.flatnonzero(batch.windows == window)
            own, whole = items[batch.users[last]], [*batch.histories[last], batch.targets[last]]
            assert len(rows) == len(batch.histories[last]) == min(3, len(own) - 1)
            assert any(np.array_equal(whole, own[begin:][: len(whole)]) for begin in range(len(own)))
            for length, row in enumerate(rows, 1):
                assert batch.users[row] == batch.users[last]
                assert np.array_equal([*batch.histories[row], batch.targets[row]], whole[: length + 1])
        seen += [*batch.users[batch.last]]
    assert sorted(seen) == sorted(items)


def test_windows_lie_anywhere_in_a_longer_history(planted):
    items, batches = training_items(planted), HistoryBatches(planted, 7, 0, max_len=3)
    longest = max(items, key=lambda user: len(items[user]))
    seen = {
        int(target)
        for step in range(200 * batches.per_epoch)
        for user, target in zip(batches.of(step).users, batches.of(step).targets, strict=True)
        if user == longest
    }
    assert seen == {*items[longest][1:].tolist()}


def test_fewer_users_are_a_sample_that_every_epoch_visits(planted):
    some, others = (HistoryBatches(planted, 7, seed, 4, max_users=10) for seed in (0, 1))
    epochs = [sorted(set(np.concatenate([some.of(step).users for step in steps]))) for steps in ((0, 1), (2, 3))]
    assert epochs[0] == epochs[1] == sorted(set(some.users))
    assert some.per_epoch == 2
    assert len(some.users) == 10
    assert set(some.users) != set(others.users)


def test_ties_in_time_have_another_order_in_each_epoch(planted):
    tied = replace(planted, has_tie_order=False)
    frame = planted.dataset.interactions
    dataset = replace(planted.dataset, interactions=frame.assign(time=frame["time"].iloc[0]))
    batches, items = HistoryBatches(replace(tied, dataset=dataset), 7, 0, 4), training_items(planted)
    orders = [batches.items_of(epoch) for epoch in (0, 1)]
    assert any(not np.array_equal(orders[0][user], orders[1][user]) for user in items)
    for order in orders:
        assert all(np.array_equal(np.sort(order[user]), np.sort(items[user])) for user in items)
