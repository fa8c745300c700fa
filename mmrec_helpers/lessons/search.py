import numpy as np

ATTRIBUTES = {30: 1.0, 20: 0.6, 21: 0.6, 22: 0.5, 300: 0.5}  # values: weight


def item_vectors(number: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """(I, D) a vector for each of five attributes of an item, added, and noise."""
    total = 0.5 * rng.standard_normal((number, dim), np.float32)
    for size, weight in ATTRIBUTES.items():
        share = 1 / np.sqrt(np.arange(1, size + 1))  # some values are frequent
        value = rng.choice(size, number, p=share / share.sum())
        total += weight * rng.standard_normal((size, dim), np.float32)[value]
    return total / np.float32(np.sqrt(dim))


def user_vectors(items: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """(N, D) queries: one item, a mean of four others, and noise."""
    own, *others = items[rng.integers(len(items), size=(5, number))]
    noise = rng.standard_normal(own.shape, np.float32) / np.float32(np.sqrt(own.shape[1]))
    return 0.7 * own + 0.3 * np.mean(others, axis=0) + 0.3 * noise
