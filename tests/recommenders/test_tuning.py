"""tuning.py: the search climbs, spends one budget, and depends on what is known and not on when it became known."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from mmrec_helpers.recommenders.tuning import MAX_TRIALS, SPACES, Settings, Space, Trial, best_settings

Metric = Callable[[Settings], float]
GRID = Space({"x": tuple(range(9)), "y": tuple(range(7))}, {"x": 4, "y": 3}, {"y": (0,)})


def hill(x: int, y: int) -> Metric:
    """A concave function with its maximum at x, y."""
    return lambda settings: -((settings["x"] - x) ** 2) - 1.5 * (settings["y"] - y) ** 2


def noise(seed: int) -> Metric:
    """Some function without any shape, with equal values among it."""
    table = np.random.default_rng(seed).integers(12, size=(9, 7))
    return lambda settings: float(table[settings["x"], settings["y"]])


def run_search(space: Space, metric: Metric, rng: np.random.Generator | None = None) -> list[Trial]:
    """Search to the end; with rng only some of the wanted settings become known at a time, in any order."""
    tried: list[Trial] = []
    while True:
        visited, missing = space.search(tried)
        if not missing:
            return visited
        assert all(settings not in [own for own, _ in tried] for settings in missing)
        if rng is not None:
            missing = [missing[place] for place in rng.permutation(len(missing))[: rng.integers(1, len(missing) + 1)]]
        tried += [(settings, metric(settings)) for settings in missing]
        if rng is not None:
            tried = [tried[place] for place in rng.permutation(len(tried))]


@pytest.mark.parametrize("top", [(4, 3), (2, 2), (7, 4), (4, 6), (6, 1)])
def test_the_top_of_a_hill_is_found(top):
    visited = run_search(GRID, hill(*top))
    assert best_settings(visited) == dict(zip("xy", top, strict=True))
    assert len(visited) <= MAX_TRIALS


@pytest.mark.parametrize("metric", [hill(2, 2), hill(8, 0), *map(noise, range(12))])
def test_a_search_tries_one_thing_after_the_other_until_nothing_near_is_better_or_the_budget_is_spent(metric):
    visited = run_search(GRID, metric)
    tried = [tuple(settings.values()) for settings, _ in visited]
    assert len(set(tried)) == len(tried) <= MAX_TRIALS
    assert visited[0][0] == GRID.start
    assert all(value == metric(settings) for settings, value in visited)
    best = best_settings(visited)
    near = [settings for settings in GRID.neighbors(best) if settings not in [own for own, _ in visited]]
    assert len(tried) == MAX_TRIALS or not near
    assert max(value for _, value in visited) == metric(best)


@pytest.mark.parametrize("metric", [hill(7, 5), *map(noise, range(8))])
def test_what_is_tried_does_not_depend_on_the_order_in_which_results_come(metric):
    whole = run_search(GRID, metric)
    for seed in range(5):
        assert run_search(GRID, metric, np.random.default_rng(seed)) == whole


@pytest.mark.parametrize("metric", [hill(7, 5), noise(3)])
def test_a_search_goes_on_from_whatever_is_known(metric):
    """A part of the trials, and others that the search never asked for."""
    whole, rng = run_search(GRID, metric), np.random.default_rng(0)
    strangers = [({"x": x, "y": y}, metric({"x": x, "y": y})) for x in range(9) for y in range(7)]
    wanted = [settings for settings, _ in whole]
    for share in (0.2, 0.5, 0.9):
        known = [trial for trial in whole if rng.random() < share]
        visited, missing = GRID.search(known)
        assert visited == [trial for trial in whole if trial in visited]
        assert all(settings in wanted for settings in missing)
    assert GRID.search(strangers) == (whole, [])
    assert GRID.search([]) == ([], [GRID.start, *GRID.neighbors(GRID.start)])


def test_neighbors_are_one_step_away_on_one_axis():
    assert GRID.neighbors({"x": 0, "y": 3}) == [{"x": 1, "y": 3}, {"x": 0, "y": 2}, {"x": 0, "y": 4}]
    assert len(GRID.neighbors(GRID.start)) == 4


def test_the_first_of_equals_is_the_best():
    assert best_settings([({"x": 1}, 0.5), ({"x": 2}, 0.7), ({"x": 3}, 0.7)]) == {"x": 2}


@pytest.mark.parametrize("family", SPACES)
def test_a_space_starts_inside_and_is_small(family):
    space = SPACES[family]
    assert 1 <= len(space.axes) <= 2
    assert set(space.start) == set(space.axes)
    for name, values in space.axes.items():
        assert space.start[name] in values[1:-1]
        assert len(values) == len({str(value) for value in values})
        assert set(map(str, space.natural.get(name, ()))) <= {str(values[0]), str(values[-1])}
        if all(isinstance(value, float) for value in values):
            assert list(values) == sorted(values)


@pytest.mark.parametrize("family", SPACES)
def test_the_budget_reaches_most_settings_of_a_space(family):
    """Wherever the top of a hill is; only corners are too far."""
    space = SPACES[family]
    places = {name: {str(value): place for place, value in enumerate(values)} for name, values in space.axes.items()}

    def found(top: Settings) -> bool:
        def height(settings: Settings) -> float:
            return -float(sum((own[str(settings[name])] - own[str(top[name])]) ** 2 for name, own in places.items()))

        return best_settings(run_search(space, height)) == top

    tops = [dict(zip(space.axes, values, strict=True)) for values in product(*space.axes.values())]
    assert np.mean([found(top) for top in tops]) > 0.7
