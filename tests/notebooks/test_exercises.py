"""Every exercise of every notebook: complete, in order; its stub fails with the hint, its solution passes its check."""

import ast
import re
import textwrap
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from scipy.stats import hypergeom
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid
from torch.nn.utils.rnn import pad_sequence

from mmrec_helpers.evaluation.fidelity import attributes_in
from mmrec_helpers.lessons.preferences import recurrent_preferences

NOTEBOOKS = {path.stem: path for path in sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))}
ROLES = ("prompt", "check", "stub", "solution")


def read(name):
    """Import lines of a notebook, and check name -> role -> cell of its exercises, in the order of the notebook."""
    imports, exercises = [], {}
    for cell in nbformat.read(NOTEBOOKS[name], as_version=4).cells:
        mark = cell.metadata.get("book", {})
        if cell.cell_type == "code":
            code = re.sub(r"^[%!].*", "", cell.source, flags=re.MULTILINE)
            imports += [
                ast.unparse(line) for line in ast.parse(code).body if isinstance(line, ast.Import | ast.ImportFrom)
            ]
        if mark.get("role") in ROLES:
            check = mark.get("check") or mark["exercise"]["check"]
            exercises.setdefault(check, {})[mark["role"]] = cell
    return "\n".join(dict.fromkeys(imports)), exercises


READ = {name: read(name) for name in NOTEBOOKS}
ALL = [
    pytest.param(READ[name][0], check, cells, id=f"{name}-{check}")
    for name in READ
    for check, cells in READ[name][1].items()
]


def facts(cells):
    return cells["solution"].metadata.book["exercise"]


def fresh(imports, cells):
    """A namespace with nothing but the notebook's imports and the exercise's check."""
    namespace = {"__name__": "exercise"}
    exec(imports, namespace)
    exec(cells["check"].source, namespace)
    return namespace


def last_call(source):
    """Function and arguments of the call that a cell ends with."""
    call = ast.parse(source).body[-1].value
    return [call.func.id, *(argument.id for argument in call.args)]


@pytest.mark.parametrize("chapter", sorted({int(name[:2]) for name in READ}))
def test_chapter_has_four_exercises_in_order(chapter):
    """All its notebooks taken together."""
    exercises = [cells for name in READ if int(name[:2]) == chapter for cells in READ[name][1].values()]
    numbers = [facts(cells)["number"] for cells in exercises]
    assert len(numbers) >= 4
    assert numbers == [f"{chapter}.{place}" for place in range(1, len(numbers) + 1)]


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_exercise_is_complete(imports, check, cells):
    assert tuple(cells) == ROLES  # in this order
    exercise = facts(cells)
    assert exercise["check"] == check
    assert exercise["title"].strip()
    assert exercise["hint"].strip()
    assert exercise["difficulty"] in range(1, 6)
    assert exercise["minutes"] >= 1
    assert last_call(cells["solution"].source)[0] == check


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_stub_fails_with_its_hint(imports, check, cells, capsys):
    namespace, hint = fresh(imports, cells), facts(cells)["hint"]
    exec(cells["stub"].source, namespace)
    assert capsys.readouterr().out == f"Not yet: {hint}\n"
    function = last_call(cells["stub"].source)[2]
    with pytest.raises(NotImplementedError, match=re.escape(hint)):
        namespace[check](namespace[function])


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_solution_passes(imports, check, cells):
    exec(cells["solution"].source, fresh(imports, cells))


MISTAKES = {
    "check_density": ("lambda user, item, U, I: len(user) / (U * I)", "counts once"),
    "check_audit": ("lambda users, count, printed: (count / users, printed * users / count)", "subtract 1"),
    "check_gini": ("lambda n: ((2 * np.arange(1, len(n) + 1) - len(n) - 1) * n).sum() / len(n) / n.sum()", "sort"),
    "check_clean": (  # duplicates before milliseconds
        """
        def clean(log):
            kept = log.dropna(subset=["user", "item"])
            account = {"id": len(log) - len(kept), "rating": int((~(kept["rating"] >= 0)).sum())}
            kept = kept[kept["rating"] >= 0]
            unique = kept.drop_duplicates(["user", "item", "time"])
            account |= {"duplicate": len(kept) - len(unique), "milliseconds": int((unique["time"] > 1e11).sum())}
            return unique.assign(time=unique["time"].where(unique["time"] < 1e11, unique["time"] // 1000)), account
        """,
        "after they are in seconds",
    ),
    "check_one_round": (
        "lambda user, item, k: (np.bincount(user)[user] > k) & (np.bincount(item)[item] > k)",
        "at least k, not more than k",
    ),
    "check_top_fifth": (
        "lambda item: np.sort(n := np.bincount(item))[-(len(n) // 5) :].sum() / len(item)",
        "never occur do not count",
    ),
    "check_leak_free": ("lambda times, query: np.searchsorted(np.sort(times), query, side='right')", "side='left'"),
    "check_first_after_cut": (  # the last one, as in leave-one-out
        "lambda user, time, cut: np.where(time < cut, 0, np.where(np.diff(user, append=-1) != 0, 2, 4))",
        "not on the last",
    ),
    "check_items_in_window": (
        "lambda window, own, cost, gap: max(0, (window - own) // (cost + gap))",
        "after the last",
    ),
    "check_encode": (  # the longest token that fits, from the left
        """
        def encode(text, merges):
            known, tokens = {"".join(pair) for pair in merges}, []
            for word in text.split():
                while word:
                    size = next(n for n in range(len(word), 0, -1) if n == 1 or word[:n] in known)
                    tokens, word = [*tokens, word[:size]], word[size:]
            return tokens
        """,
        "learned first",
    ),
    "check_board_from_values": (  # two groups of different users instead of pairs
        """
        def board_from_values(values, reference):
            from mmrec_helpers.evaluation.tables import holm, p_value

            gap = values.sub(values[reference], axis=0)
            error = 1.96 * ((values.var() + values[reference].var()) / len(values)) ** 0.5
            others = [name for name in values if name != reference]
            p = pd.Series(holm([p_value(gap[name].to_numpy()) for name in others]), others)
            board = pd.DataFrame({"mean": values.mean(), "difference": gap.mean()})
            board["ci_low"], board["ci_high"] = gap.mean() - error, gap.mean() + error
            return board.assign(p=p.reindex(board.index, fill_value=1.0)).sort_values("mean", ascending=False)
        """,
        "paired differences",
    ),
    "check_pareto_front": (  # keeps what costs more for the same quality
        "lambda c, q: [s for s in c.sort_values().index if q[s] >= q[(c <= c[s])].max()]",
        "e is as good as b",
    ),
    "check_mrr_bounds": ("lambda hr, k: (hr / (k + 1), hr)", "the last hit is at rank k"),
    "check_r_precision": (  # all missing items count, although only n - k ranks are left
        "lambda hits, n: np.array([(hits & (np.arange(hits.shape[1]) < n[:, None])).sum(1) / n, np.minimum(n, 9) / n])",
        "largest|rank 2 is none",
    ),
    "check_gain_bounds": (
        "lambda hr_k, hr_m, k, m: ((hr_m - hr_k) / np.log2(m + 1), (hr_m - hr_k) / np.log2(k + 1))",
        "rank 6 or later",
    ),
    "check_exchanges": (
        """
        def exchanges(row, outcomes, unit):
            from itertools import combinations

            from mmrec_helpers.lessons.audit import POSSIBLE, distance

            found = []
            for a, b in combinations(list(row), 2):
                row[a], row[b] = row[b], row[a]
                if distance(row, outcomes, unit) <= POSSIBLE:
                    found.append((a, b))
            return found
        """,
        "do not change the row itself",
    ),
    "check_match_probability": ("lambda s, t: np.exp(s / t).diagonal() / np.exp(s / t).sum(1)", "overflow"),
    "check_hard_info_nce": (  # similarities of other groups are 0, not minus infinity
        """
        def hard_info_nce(images, texts, groups, temperature):
            same = torch.from_numpy(groups[:, None] == groups)
            logits = normalize(images) @ normalize(texts).T / temperature * same
            rows = torch.arange(len(logits))
            return (cross_entropy(logits, rows) + cross_entropy(logits.T, rows)) / 2
        """,
        "has no negatives",
    ),
    "check_align_towers": (  # rows of images and texts are sampled separately
        """
        def align_towers(images, texts, dim):
            towers = [nn.Linear(part.shape[1], dim) for part in (images, texts)]
            weights = [*towers[0].parameters(), *towers[1].parameters()]
            optimizer, rng = torch.optim.Adam(weights, lr=0.01), np.random.default_rng(0)
            for _ in range(100):
                v, w = (t(x[rng.permutation(len(x))[:64]]) for t, x in zip(towers, (images, texts)))
                loss = cross_entropy(normalize(v) @ normalize(w).T / 0.1, torch.arange(64))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return towers
        """,
        "stay a pair",
    ),
    "check_lift_to": (  # each pair is moved together
        """
        def lift_to(images, texts, wanted):
            apart = normalize(texts - (images * texts).sum(1, keepdim=True) * images)
            return images, wanted * images + (1 - wanted**2) ** 0.5 * apart
        """,
        "order of the texts changed",
    ),
    "check_bias_for": ("lambda cosines, scale, share: -np.quantile(cosines, 1 - share)", "multiply by the scale"),
    "check_overlap_report": (  # two samples apart
        """
        def overlap_report(images, texts, groups, seed):
            rng, cosines = np.random.default_rng(seed), (images @ texts.T).numpy()
            other = (groups[:, None] == groups) & ~np.eye(len(groups), dtype=bool)
            rows = np.flatnonzero(other.any(1))
            parts = cosines[rows, rows], np.array([cosines[r, rng.choice(np.flatnonzero(other[r]))] for r in rows])
            samples = [[part[rng.integers(len(rows), size=len(rows))].mean() for _ in range(1000)] for part in parts]
            return *(part.mean() for part in parts), *np.percentile(np.subtract(*samples), [2.5, 97.5])
        """,
        "resample their differences",
    ),
    "check_embed_windows": (
        """
        def embed_windows(text, embed, size):
            words = text.split()
            windows = [" ".join(words[i : i + size]) for i in range(0, len(words), size)]
            return normalize(embed(windows).mean(0), dim=0)
        """,
        "larger weight",
    ),
    "check_probe_gain": (  # two samples apart
        """
        def probe_gain(image_correct, both_correct):
            rng, size = np.random.default_rng(0), len(image_correct)
            parts = both_correct, image_correct
            samples = [[part[rng.integers(size, size=size)].mean() for _ in range(2000)] for part in parts]
            return both_correct.mean() - image_correct.mean(), *np.percentile(np.subtract(*samples), [2.5, 97.5])
        """,
        "not the two arrays apart",
    ),
    "check_train_probe": (  # new features are standardised by themselves
        """
        def train_probe(features, labels):
            values, codes = np.unique(labels, return_inverse=True)
            scale = lambda x: (x - x.mean(0)) / (x.std(0, correction=0) + 1e-6)
            layer = torch.nn.Linear(features.shape[1], len(values))
            optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
            for _ in range(300):
                loss = torch.nn.functional.cross_entropy(layer(scale(features)), torch.from_numpy(codes))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return lambda new: values[layer(scale(new)).argmax(1).numpy()]
        """,
        "must not depend on the other rows",
    ),
    "check_expected_rr": (  # one over the mean rank
        "lambda higher, tied, k: (r := higher + (tied + 1) / 2) and (r <= k) / r",
        "mean of the reciprocals",
    ),
    "check_shuffled_mrr": ("lambda hit_rate, k: hit_rate / k", "worst position"),
    "check_gap_in_errors": (
        "lambda one, other, users: (one - other) / (one * (1 - one) / users) ** 0.5 if one != other else 0",
        "add both variances",
    ),
    "check_evaluate_scores": (  # 0 for what is excluded
        """
        def evaluate_scores(scores, histories, targets, k):
            scores = scores.copy()
            np.put_along_axis(scores, histories, 0, axis=1)
            scores[:, 0] = 0
            r = 1 + (scores > np.take_along_axis(scores, targets[:, None], axis=1)).sum(axis=1)
            return {"HR": r <= k, "NDCG": (r <= k) / np.log2(r + 1), "RR": (r <= k) / r}
        """,
        "below all others",
    ),
    "check_user_knn": (  # inside of the root
        """
        def user_knn_scores(h, R, k, shrinkage):
            similarity = (R @ h) / np.sqrt(R.sum(axis=1) * h.sum() + shrinkage)
            top = np.argsort(-similarity, kind="stable")[:k]
            return similarity[top] @ R[top]
        """,
        "not inside of it",
    ),
    "check_sample_by_popularity": (  # without the power
        """
        def sample_by_popularity(users, R, beta, rng):
            share = R.sum(axis=0) / R.sum()
            sampled = rng.choice(len(share), len(users), p=share)
            while (again := R[users, sampled] > 0).any():
                sampled[again] = rng.choice(len(share), again.sum(), p=share)
            return sampled
        """,
        "power beta",
    ),
    "check_train_bpr_numpy": (  # down the wrong side
        """
        def train_bpr_numpy(R, dim, steps, lr, decay, rng):
            P, Q = rng.normal(0, 0.1, (len(R), dim)), rng.normal(0, 0.1, (R.shape[1], dim))
            for u in rng.integers(len(P), size=steps):
                i, j = rng.choice(np.flatnonzero(R[u])), rng.choice(np.flatnonzero(R[u] == 0))
                p, difference = P[u].copy(), Q[i] - Q[j]
                wrong = 1 / (1 + np.exp(p @ difference))
                P[u] -= lr * (wrong * difference + decay * p)
                Q[i] -= lr * (wrong * p + decay * Q[i])
                Q[j] -= lr * (-wrong * p + decay * Q[j])
            return P, Q
        """,
        "order is reversed",
    ),
    "check_cold_scores": ("lambda T, E, c, new: T @ E @ new.T", "c . f is missing"),
    "check_speedup": ("lambda long, short, dim: (long / short) ** 2", "n squared alone"),
    "check_predicting": (  # the mask of the answers' tokens
        "lambda begins, ends, T: (torch.arange(T) >= begins[:, None]) & (torch.arange(T) < ends[:, None])",
        "one too late",
    ),
    "check_align": (  # the language model is trained
        """
        def align(llm, features, prompts, answers, steps=60, lr=5e-3):
            torch.manual_seed(0)
            adaptor = Adaptor(features.shape[1], llm.dim)
            optimizer = torch.optim.AdamW(llm.model.requires_grad_(True).parameters(), lr)
            embed = lambda tokens: splice(tokens, llm.words, adaptor(features[-tokens[tokens < 0] - 1]))
            for _ in range(2):
                optimizer.zero_grad()
                answer_loss(llm, prompts, answers, embed).backward()
                optimizer.step()
            return adaptor
        """,
        "has changed: freeze it",
    ),
    "check_unknown": (  # the next item where one is known
        """
        def unknown_negatives(histories, targets, num_items, rng):
            negatives = []
            for history, target in zip(histories, targets):
                item = int(rng.integers(num_items))
                while item + 1 in {*history, target}:
                    item = (item + 1) % num_items
                negatives.append(item + 1)
            return negatives
        """,
        "not uniform",
    ),
    "check_added": ("lambda D, F, d: sum((n + 1) * 2 * d + (2 * d + 1) * d for n in (D, F))", "LayerNorm has"),
    "check_in_batch": (
        "lambda users, items, targets: sum(cross_entropy(a, torch.arange(len(a))) for a in users @ items.mT)",
        "its own negative",
    ),
    "check_title_scores": (
        "lambda llm, prompt, names: torch.stack("
        "[-answer_loss(llm, [prompt], [name], lambda t: llm.words[t]).detach() for name in names])",
        "mean over the tokens",
    ),
    "check_permuted": (
        "lambda features, groups, rng: features[[0, *1 + rng.permutation(len(features) - 1)]]",
        "a group of one stays",
    ),
    "check_attend": (  # logits of 0 for missing patches
        """
        def attend(words, patches, allowed):
            weights = np.exp(words @ patches.T / words.shape[1] ** 0.5 * allowed)
            return weights @ patches / weights.sum(axis=1, keepdims=True)
        """,
        "a logit of 0 is not a weight of 0",
    ),
    "check_entries": ("lambda L, P: (2 * L * P, L**2 + P**2, (L + P) ** 2)", "count the filled cells"),
    "check_occlusion": (  # patches that were removed stay away
        """
        def occlusion(score, patches):
            whole, falls, left = score(patches), [], patches.copy()
            for number in range(len(patches)):
                left[number] = 0
                falls.append(whole - score(left))
            return np.array(falls)
        """,
        "bring a patch back",
    ),
    "check_gated_block": (  # half open at the beginning
        """
        class GatedBlock(nn.Module):
            def __init__(self, block):
                super().__init__()
                self.block, self.alpha = block, nn.Parameter(torch.zeros(1))

            def forward(self, words, patches, is_patch):
                return words + self.alpha.sigmoid() * (self.block(words, patches, is_patch) - words)
        """,
        "alpha begins at 0",
    ),
    "check_nodes_at": (  # walks, which may go back
        """
        def nodes_at(neighbours, start, distance):
            reached = {start}
            for _ in range(distance):
                reached = {w for v in reached for w in neighbours[v]}
            return reached
        """,
        "a walk that returns",
    ),
    "check_attention_weights": (
        "lambda scores, targets, num_nodes: np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()",
        "over all edges",
    ),
    "check_item_graph": (  # the edges are not made symmetric
        """
        def item_graph(features, k):
            similarity = features @ features.T - 3 * np.eye(len(features))
            return (similarity >= np.sort(similarity, axis=1)[:, [-k]]).astype(float)
        """,
        "make the edge symmetric",
    ),
    "check_num_scores": ("lambda T, C: T * C * (T * C + 1) // 2", "a causal mask over four tokens"),
    "check_fuse_ranks": (  # the item at each rank, not the rank of each item
        "lambda scores: sum(1 / (61 + np.argsort(-own, axis=1)) for own in scores)",
        "ranks from 1",
    ),
    "check_pass_share": ("lambda passed, user: passed.mean()", "average each user first"),
    "check_expected_share": (
        "lambda start, wrong, k: 1 / k + (1 - wrong) * (start - 1 / k)",
        "one correct image of two is not enough",
    ),
    "check_suspicion": (  # one fit on all items
        """
        def suspicion(texts, images):
            x = np.hstack([texts, np.ones((len(texts), 1))])
            return ((images - x @ np.linalg.lstsq(x, images, rcond=None)[0]) ** 2).sum(axis=1)
        """,
        "influence on its own prediction",
    ),
    "check_relative_gain": (  # other users for the second system
        """
        def relative_gain(a, b):
            rng = np.random.default_rng(0)
            one, other = (x[rng.integers(len(x), size=(1000, len(x)))].mean(axis=1) for x in (a, b))
            return a.mean() / b.mean() - 1, *np.quantile(one / other - 1, [0.025, 0.975])
        """,
        "take the same users for both systems",
    ),
    "check_shuffled_within": (
        "lambda features, category, rng: np.vstack([features[:1], rng.permutation(features[1:])])",
        "an item has another category",
    ),
    "check_largest_strength": (
        "lambda strengths, metrics, loss: strengths[np.asarray(metrics) >= (1 - loss) * metrics[0]].max()",
        "the dip at .1 comes before .2",
    ),
    "check_device_sessions": (  # an early event of the next user continues a session
        """
        def device_sessions(user, time, device, gap):
            return np.cumsum((np.abs(np.diff(time, prepend=0)) > gap) | (np.diff(device, prepend=-1) != 0)) - 1
        """,
        "the next user begins a session",
    ),
    "check_without_conflict": ("lambda g, h: g - (g @ h) / (h @ h) * h", "these agree: g stays"),
    "check_uncertainty": (  # weights without the term that keeps the variances from growing
        """
        def uncertainty_loss(num_tasks):
            class Weighted(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.s = nn.Parameter(torch.zeros(num_tasks))

                def forward(self, losses):
                    return (torch.exp(-self.s) * losses).sum()

            return Weighted()
        """,
        "without [+] s the variances grow",
    ),
    "check_encodings": ("lambda batches, num_items: (num_items, num_items + sum(map(len, batches)))", "encoded once"),
    "check_whole_words": (  # tokens, not words
        """
        def mask_words(tokens, word, rng, rate, mask):
            hit = (rng.random(len(tokens)) < rate) & (word >= 0)
            return np.where(hit, mask, tokens), np.where(hit, tokens, -100)
        """,
        "all tokens of a word are chosen, or none",
    ),
    "check_last_layers": (  # the lower layers, and not what comes before them
        """
        def train_last(model, layers):
            for number, layer in enumerate(model.encoder.layer):
                layer.requires_grad_(number >= len(model.encoder.layer) - layers)
            return sum(w.numel() for w in model.encoder.parameters() if w.requires_grad)
        """,
        "the embeddings come first",
    ),
    "check_non_inferior": (  # users taken as independent
        """
        def non_inferior(one, other, share):
            se = ((one.var(ddof=1) + other.var(ddof=1)) / len(one)) ** 0.5
            low = one.mean() - other.mean() - 1.96 * se
            return low, bool(low > -share * other.mean())
        """,
        "users are paired",
    ),
    "check_shapley_by_sets": (  # the plain mean over all sets, Banzhaf's index
        """
        def shapley_by_sets(value, players):
            shares = {}
            for player in players:
                without = [own for own in value if player not in own]
                shares[player] = sum(value[own | {player}] - value[own] for own in without) / len(without)
            return shares
        """,
        "sum to the whole gain",
    ),
    "check_interaction": (  # the value with none left out
        """
        def interaction(both, one, other, none):
            extra = both - one - other
            half = 1.96 * extra.std(ddof=1) / len(extra) ** 0.5
            return extra.mean(), extra.mean() - half, extra.mean() + half
        """,
        "does not interact",
    ),
    "check_count": (  # the output layer as a second matrix
        "lambda D, layers, T, V: layers * (12 * D**2 + 13 * D) + 2 * D + (T + 2 * V) * D",
        "count word embeddings once",
    ),
    "check_identity_start": (
        "lambda text, image, dim: (min(1, dim / (text + image)),) * 2",
        "not thinned out evenly",
    ),
    "check_all_missed": (  # as if probabilities were added
        "lambda rate, examples, level: ((1 - rate) ** examples, 1 - level / examples)",
        "misses have probability",
    ),
    "check_training_cost": (  # without the backward pass
        "lambda n, epochs, w, hours, peak, price: (2 * w * n * epochs / (3600 * hours * peak), hours * price)",
        "two are the forward pass",
    ),
    "check_merged": (  # not divided by the rank
        "lambda W, down, up, alpha: (W + alpha * up @ down, (down.numel() + up.numel()) / W.numel())",
        "B A is scaled by",
    ),
    "check_smallest_batch": (  # Little's number of requests
        "lambda fixed, each, latency, second: int(latency * second)",
        "are enough",
    ),
    "check_worthwhile_from": (  # infinite only where both are equally long
        "lambda image, words: np.inf if words == image else (image + words) // (image - words) + 1",
        "longer than the image",
    ),
    "check_items_that_fit": (  # the oldest items are kept
        "lambda sizes, around, window: int((np.cumsum(sizes) <= window - around).sum())",
        "from the last item backwards",
    ),
    "check_fold_comparison": (  # the folds as a sample of five, whatever their sizes
        """
        def fold_comparison(one, other):
            means = np.array([a.mean() - b.mean() for a, b in zip(one, other)])
            every = np.concatenate(one) - np.concatenate(other)
            errors = [own.std(ddof=1) / len(own) ** 0.5 for own in (every, means)]
            return means.mean(), *errors
        """,
        "weight users alike",
    ),
    "check_share_best": (  # users drawn for each setting on its own
        """
        def share_best(values, num_draws, rng):
            users = rng.integers(len(values), size=(num_draws, *values.shape))
            means = np.take_along_axis(values[None], users, axis=1).mean(axis=1)
            return np.bincount(means.argmax(axis=1), minlength=values.shape[1]) / num_draws
        """,
        "draw whole rows",
    ),
    "check_cider_of_words": (  # words of a set, each counted once
        """
        def cider_of_words(texts, references):
            images = [{*" ".join(own).split()} for own in references]

            def vector(text):
                counts = {w: sum(w in own for own in images) for w in text.split()}
                weigh = {w: np.log(len(texts) / max(n, 1)) for w, n in counts.items()}
                length = np.linalg.norm([*weigh.values()]) or 1.0
                return {w: value / length for w, value in weigh.items()}

            def cosine(one, other):
                return sum(value * other.get(w, 0.0) for w, value in one.items())

            rows = zip(map(vector, texts), references)
            return np.array([np.mean([cosine(v, vector(r)) for r in own]) for v, own in rows])
        """,
        "as often as they occur",
    ),
    "check_between_shops": (  # all of the scatter, also what the users explain
        """
        def between_shops(means, errors):
            users, rest = np.mean(errors**2), means.std(ddof=1)
            return means.mean(), rest, np.sqrt((rest**2 + users) / len(means))
        """,
        "take off what the users explain",
    ),
    "check_users_needed": (
        "lambda differences, effect: int(1.96 * np.std(differences, ddof=1) / effect)",
        "the width falls with the root",
    ),
    "check_slow_pages": ("lambda n, q: n * q", "slow together"),
    "check_latencies": ("lambda arrivals, seconds: np.cumsum(seconds) - arrivals", "begins at once"),
    "check_quantile_of": (  # counts of single buckets
        """
        def quantile_of(bounds, counts, q):
            edges, sums = [0, *bounds], np.cumsum([0, *counts])
            n = int(np.searchsorted(sums, q * sums[-1])) - 1
            return edges[n] + (q * sums[-1] - sums[n]) / counts[n] * (edges[n + 1] - edges[n])
        """,
        "at most 4",
    ),
    "check_token_bucket": (  # no maximum
        """
        def token_bucket(per_second, size):
            taken = 0

            def allow(now):
                nonlocal taken
                taken += (allowed := size + per_second * now - taken >= 1)
                return allowed

            return allow
        """,
        "holds at most `size` tokens",
    ),
    "check_embedding_cache": (  # first in, first out
        """
        def embedding_cache(compute, size):
            kept, hits = {}, []

            def get(key):
                hits.append(key in kept)
                if key not in kept:
                    if len(kept) == size:
                        kept.pop(next(iter(kept)))
                    kept[key] = compute(key)
                return kept[key]

            return get, lambda: np.mean(hits)
        """,
        "2 is dropped",
    ),
    "check_users_per_arm": (  # the variance of one arm
        """
        def users_per_arm(p_a, lift, power, comparisons):
            quantiles = norm.ppf(1 - 0.025 / comparisons) + norm.ppf(power)
            return int(np.ceil(quantiles**2 * p_a * (1 - p_a) / lift**2))
        """,
        "both arms have a variance",
    ),
    "check_examination": ("lambda k, click: np.bincount(k, click)[1:] / np.bincount(k, click)[1]", "divide by them"),
    "check_ratio_mismatch": (
        "lambda a, b, q: norm.sf(abs(b - (a + b) * q) / ((a + b) * q * (1 - q)) ** 0.5)",
        "two-sided|no reason to doubt",
    ),
    "check_recall": ("lambda found, exact: (found == exact).mean()", "compare sets"),
    "check_int8_product": (  # one scale for all rows of w
        """
        def int8_product(x, w):
            scales = abs(x).max(axis=1, keepdims=True) / 127, abs(w).max() / 127
            qx, qw = (np.rint(own / s).astype(np.int32) for own, s in zip((x, w), scales))
            return scales[0] * scales[1] * (qx @ qw.T)
        """,
        "one large row must not cost the others theirs",
    ),
    "check_soft_loss": (  # without the factor
        """
        def soft_loss(student, teacher, temperature):
            z = [scores / temperature for scores in (student, teacher)]
            z = [own - own.max(axis=1, keepdims=True) for own in z]
            logs = [own - np.log(np.exp(own).sum(axis=1, keepdims=True)) for own in z]
            return (np.exp(logs[1]) * (logs[1] - logs[0])).sum(axis=1).mean()
        """,
        "factor of temperature squared",
    ),
    "check_ring_all_reduce": (  # whole vectors go around
        """
        def ring_all_reduce(vectors):
            n, dim = np.shape(vectors)
            return sum(np.roll(vectors, turn, axis=0) for turn in range(n)), (n - 1) * dim
        """,
        "whole vectors were sent",
    ),
    "check_machines": (  # the load is divided by the shards
        """
        def machines(items, dim, rate, ms, memory, cores):
            shards = int(np.ceil(4 * dim * items / (1e9 * memory)))
            seconds = ms / 1000 * items / shards / 1e6
            return shards, int(np.ceil(rate / shards * seconds / (0.5 * cores)))
        """,
        "not in one of them",
    ),
    "check_stability_index": (  # bins of equal width
        """
        def stability_index(reference, window, bins):
            edges = np.linspace(reference.min(), reference.max(), bins + 1)[1:-1]
            p, q = (
                np.bincount(np.searchsorted(edges, own, side="right"), minlength=bins) / len(own)
                for own in (reference, window)
            )
            p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
            return ((q - p) * np.log(q / p)).sum()
        """,
        "bins at the quantiles of the reference",
    ),
    "check_circuit_breaker": (  # the count starts anew when the pause ends
        """
        def circuit_breaker(call, failures, pause):
            in_a_row, closed_from = 0, -np.inf

            def ask(now):
                nonlocal in_a_row, closed_from
                if now < closed_from:
                    return None
                if in_a_row >= failures:
                    in_a_row = 0
                try:
                    answer = call()
                except Exception:
                    in_a_row += 1
                    if in_a_row >= failures:
                        closed_from = now + pause
                    return None
                in_a_row = 0
                return answer

            return ask
        """,
        "one trial after the pause",
    ),
    "check_inverted_lists": (  # positions in the visited lists
        """
        def inverted_lists(items, centres):
            nearest = ((items[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)

            def search(query, nprobe, k):
                some = np.flatnonzero(np.isin(nearest, np.argsort(-centres @ query)[:nprobe]))
                some = some[np.argsort(nearest[some], kind="stable")]
                return np.argsort(-items[some] @ query)[:k], len(centres) + len(some)

            return search
        """,
        "by their numbers in the catalogue",
    ),
    "check_cuped": (  # x is centred in each arm
        """
        def cuped(y, x, in_b):
            beta = np.cov(x, y)[0, 1] / np.var(x, ddof=1)
            a, b = (y[arm] - beta * (x[arm] - x[arm].mean()) for arm in (~in_b, in_b))
            return b.mean() - a.mean(), np.sqrt(a.var() / len(a) + b.var() / len(b))
        """,
        "mean of both arms",
    ),
}
"""Check of a chapter in the new form -> a wrong answer that readers give, and what the check says of it."""


@pytest.mark.parametrize(
    ("imports", "check", "cells"),
    [case for case in ALL if case.id.startswith(("01", "02", "03a", "03b")) or case.values[1] in MISTAKES],
)
def test_check_names_the_mistake_of_a_wrong_answer(imports, check, cells):
    source, reason = MISTAKES[check]
    namespace = fresh(imports, cells)
    answer = f"answer = {source}" if source.startswith("lambda") else textwrap.dedent(source)
    exec(answer, namespace)
    function = last_call(cells["stub"].source)[2]
    with pytest.raises(AssertionError, match=reason):
        namespace[check](namespace.get(function) or namespace["answer"])


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_check_refuses_an_empty_answer(imports, check, cells):
    with pytest.raises((AssertionError, TypeError, AttributeError)):
        fresh(imports, cells)[check](lambda *arguments, **options: None)


# Wrong answers that are really given ----------------------------------------------------------------------------------


def tokens_sent(first=0, whole=True, repeated=True):
    """An answer to exercise 6.5.

    Args:
        first: preferences in the first message.
        whole: the last block may be shorter.
        repeated: direct inference after each block, not only once.
    """

    def answer(n, k, item, preference, wording):
        ends = [min(start + k, n) if whole else start + k for start in range(0, n, k)]
        recurrent = n * item + (len(ends) - 1 + first) * preference + len(ends) * wording
        return recurrent, sum(ends) * item + len(ends) * wording if repeated else n * item + wording

    return answer


def delay(least):
    """An answer to exercise 6.6, which accepts summaries from ``least`` interactions after the change on."""

    def answer(nearer, k, change):
        passed = [number * k - change for number, is_nearer in enumerate(nearer, 1) if is_nearer]
        return min((count for count in passed if count >= least), default=np.inf)

    return answer


def decayed(weight, enough=lambda count, others: count > sum(others)):
    """An answer to exercise 6.8.

    Args:
        weight: decay, age of a text in blocks, number of later texts -> its votes.
        enough: votes of a value, votes of each other value -> whether it is in the preference.
    """

    def answer(blocks, decay):
        votes = Counter()
        dated = [(len(blocks) - number, text) for number, block in enumerate(blocks, 1) for text in block]
        for later, (age, text) in enumerate(reversed(dated)):
            votes += Counter(dict.fromkeys(attributes_in(text), weight(decay, age, later)))
        others = {pair: [votes[other] for other in votes if other[0] == pair[0] and other != pair] for pair in votes}
        return {pair for pair in votes if enough(votes[pair], others[pair])}

    return answer


def by_block(decay, age, later):
    """The right weight."""
    return decay**age


def corrected(p, n, m):
    """The answer to exercise 6.9."""
    odds = p / (1 - p) * n / m
    return odds / (1 + odds)


def all_pairs_auc(by_user=False, tie=0.5):
    """An answer to exercise 6.12.

    Args:
        by_user: the mean of the users' own AUC.
        tie: what a tie counts.
    """

    def answer(scores):
        targets, negatives = scores[:, :1], scores[:, 1:] if by_user else scores[:, 1:].reshape(1, -1)
        return ((targets > negatives) + tie * (targets == negatives)).mean()

    return answer


def released_loss(first=1, padded=False, by_row=False, shift=1):
    """An answer to exercise 6.10.

    Args:
        first: position of the first term, counted from the answer where it is 0.
        padded: padding is predicted, too.
        by_row: the mean of the rows' means.
        shift: of the token against the state that predicts it.
    """

    @torch.no_grad()
    def answer(llm, prompts, answers):
        rows = [torch.tensor(prompt + own) for prompt, own in zip(prompts, answers, strict=True)]
        tokens, terms = pad_sequence(rows, batch_first=True), []
        logs = llm.logits(llm.hidden_states(llm.words[tokens])).log_softmax(2)
        for row, prompt in enumerate(prompts):
            places = torch.arange(first or len(prompt), len(tokens[0]) if padded else len(rows[row]))
            terms.append(-logs[row, places - shift, tokens[row, places]])
        return torch.stack([own.mean() for own in terms]).mean() if by_row else torch.cat(terms).mean()

    return answer


def listwise_loss(column=0, reduction="mean"):
    """An answer to exercise 6.11, with the positive in a column."""
    return lambda z: cross_entropy(z, torch.full((len(z),), column), reduction=reduction)


def profile_at(is_past=lambda time, now: time < now, by_time=True, size=None):
    """An answer to exercise 6.13.

    Args:
        is_past: which interactions are used.
        by_time: oldest first; otherwise in the order of the input.
        size: of a block; None is the one that is asked for.
    """

    def answer(generate, texts, times, now, block=3):
        order = np.argsort(times, kind="stable") if by_time else range(len(texts))
        past = [texts[row] for row in order if is_past(times[row], now)]
        return recurrent_preferences(generate, [past], size or block)[0]

    return answer


def padded_attention(later=False, padding=False, renormalised=True, hidden=-torch.inf, zeroed=True):
    """An answer to exercise 3.9.

    Args:
        later: positions attend to later ones.
        padding: positions attend to padding.
        renormalised: the weights of real positions sum to 1.
        hidden: the logit of what is masked.
        zeroed: outputs at padding are 0.
    """

    def answer(query, keys, values, is_real):
        logits = query @ keys.T / query.shape[1] ** 0.5
        causal = torch.ones_like(logits, dtype=torch.bool) if later else torch.ones_like(logits).tril() > 0
        real = is_real | padding
        if renormalised:
            weights = logits.masked_fill(~(causal & real), hidden).softmax(1).nan_to_num()
        else:
            weights = logits.masked_fill(~causal, hidden).softmax(1) * real
        outputs = weights @ values
        return torch.where(is_real[:, None], outputs, 0) if zeroed else outputs

    return answer


def binary_loss(sign=-1, padded=False, both=1.0, shift=1, stable=True):
    """An answer to exercise 3.11.

    Args:
        sign: of the negative's score.
        padded: the mean is over all positions.
        both: factor of the sum of both terms.
        shift: row of an item is its number minus this.
        stable: logsigmoid, not the logarithm of 1 - sigmoid.
    """

    def answer(hidden, items, targets, negatives):
        real = targets > 0
        states = hidden[real]
        positive, negative = ((states * items[own[real] - shift]).sum(1) for own in (targets, negatives))
        log = logsigmoid if stable else lambda score: (1 - (-score).sigmoid()).log()
        terms = -both * (log(positive) + log(sign * negative))
        return terms.sum() / targets.numel() if padded else terms.mean()

    return answer


def sampled_gain(better=1, position=2, beyond=0):
    """An answer to exercise 3.13.

    Args:
        better: rank minus the number of better items; None counts the worse ones.
        position: added to the number of better items sampled.
        beyond: positions behind the k-th that count, too.
    """

    def answer(rank, num_items, num_negatives, k):
        above = np.arange(k + beyond)
        num_better = num_items - rank if better is None else rank - better
        return (hypergeom.pmf(above, num_items - 1, num_better, num_negatives) / np.log2(above + position)).sum()

    return answer


def candidates_of(target=True, history=False, replace=False, first=1, last=1):
    """An answer to exercise 3.14.

    Args:
        target: the target is no negative.
        history: items of the history can be negatives.
        replace: with replacement.
        first: the first item that can be a negative.
        last: added to the number of items, where sampling ends.
    """

    def answer(targets, histories, num_items, num_negatives, rng):
        rows = []
        for own, items in zip(targets, histories, strict=True):
            excluded = [own] * target + ([] if history else items[items > 0].tolist())
            allowed = np.setdiff1d(np.arange(first, num_items + last), excluded)
            rows.append([own, *rng.choice(allowed, num_negatives, replace=replace)])
        return np.array(rows)

    return answer


def corrected_p(steps=True, running=True, ordered=True, limit=1.0):
    """An answer to exercise 3.16.

    Args:
        steps: the k-th smallest of S is multiplied by S - k + 1, not all by S.
        running: no value is below that of a smaller p.
        ordered: in the order of the input.
        limit: the largest value.
    """

    def answer(p_values):
        order = np.argsort(p_values)
        factors = np.arange(len(order), 0, -1) if steps else np.full(len(order), len(order))
        scaled = np.array(p_values)[order] * factors
        scaled = np.minimum(np.maximum.accumulate(scaled) if running else scaled, limit)
        return scaled[np.argsort(order)] if ordered else scaled

    return answer


def feature_map(warm_only=True, keep=True, scaled=False, cold=1.0):
    """An answer to exercise 3.17.

    Args:
        warm_only: cold items are no training data.
        keep: warm items keep their vectors.
        scaled: the penalty is multiplied by the number of items.
        cold: factor of the cold items' vectors.
    """

    def answer(features, vectors, is_warm, penalty):
        rows = is_warm if warm_only else np.ones_like(is_warm)
        x, y = features[rows], vectors[rows]
        strength = penalty * (len(x) if scaled else 1)
        predicted = features @ np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
        return np.where(is_warm[:, None], vectors if keep else predicted, cold * predicted)

    return answer


CORRECT = {
    "check_masked": padded_attention(),
    "check_true_probability": lambda predicted, items, k: corrected(predicted, k, items - 1),
    "check_sasrec_loss": binary_loss(),
    "check_random_baseline": lambda c, k: (min(k, c) / c, (1 / np.arange(1, min(k, c) + 1)).sum() / c),
    "check_sampled_ndcg": sampled_gain(),
    "check_sample_candidates": candidates_of(),
    "check_least_novelty": lambda counts, n, k: np.log2((n + 1) / (np.sort(counts[1:])[-k:] + 1)).mean(),
    "check_holm": corrected_p(),
    "check_feature_map": feature_map(),
    "check_tokens": tokens_sent(),
    "check_delay": delay(1),
    "check_items": lambda strength, k: -(-(strength + 2) // k) * k,
    "check_decayed": decayed(by_block),
    "check_corrected": corrected,
    "check_pooled": all_pairs_auc(),
    "check_released": released_loss(),
    "check_listwise": listwise_loss(),
    "check_profile_at": profile_at(),
}
WRONG = {
    "check_masked": {
        "no causal mask": padded_attention(later=True),
        "padding attended to": padded_attention(padding=True),
        "masked after the softmax": padded_attention(renormalised=False),
        "a logit of 0": padded_attention(hidden=0.0),
    },
    "check_true_probability": {
        "a constant": lambda predicted, items, k: predicted * k / (items - 1),
        "the wrong way round": lambda predicted, items, k: corrected(predicted, items - 1, k),
        "one negative always": lambda predicted, items, k: corrected(predicted, 1, items - 1),
    },
    "check_sasrec_loss": {
        "negatives are pushed up": binary_loss(sign=1),
        "a mean with padding": binary_loss(padded=True),
        "the mean of both terms": binary_loss(both=0.5),
        "the row of the next item": binary_loss(shift=2),
        "the logarithm of 1 - sigmoid": binary_loss(stable=False),
    },
    "check_random_baseline": {
        "without the target": lambda c, k: (k / (c - 1), (1 / np.arange(1, k + 1)).sum() / (c - 1)),
        "no cut-off": lambda c, k: (min(k, c) / c, (1 / np.arange(1, c + 1)).mean()),
        "hits only": lambda c, k: (min(k, c) / c, (1 / np.arange(1, min(k, c) + 1)).mean()),
        "a long list": lambda c, k: (k / c, (1 / np.arange(1, k + 1)).sum() / c),
    },
    "check_sampled_ndcg": {
        "the target is better than itself": sampled_gain(better=0),
        "the worse items": sampled_gain(better=None),
        "one rank too far": sampled_gain(position=3),
        "no cut-off": sampled_gain(beyond=1),
    },
    "check_sample_candidates": {
        "the target as a negative": candidates_of(target=False),
        "items of the history": candidates_of(history=True),
        "with replacement": candidates_of(replace=True),
        "padding": candidates_of(first=0),
        "never the last item": candidates_of(last=0),
    },
    "check_least_novelty": {
        "the rarest items": lambda counts, n, k: np.log2((n + 1) / (np.sort(counts[1:])[:k] + 1)).mean(),
        "negative": lambda counts, n, k: np.log2((np.sort(counts[1:])[-k:] + 1) / (n + 1)).mean(),
        "nats": lambda counts, n, k: np.log((n + 1) / (np.sort(counts[1:])[-k:] + 1)).mean(),
        "each item": lambda counts, n, k: np.log2((n + 1) / (np.sort(counts[1:])[-k:] + 1)),
    },
    "check_holm": {
        "Bonferroni": corrected_p(steps=False),
        "no running maximum": corrected_p(running=False),
        "sorted": corrected_p(ordered=False),
        "above 1": corrected_p(limit=np.inf),
    },
    "check_feature_map": {
        "cold items as training data": feature_map(warm_only=False),
        "warm items are replaced": lambda x, y, warm, penalty: feature_map(keep=False)(x, y, warm, max(penalty, 0.1)),
        "a penalty for each item": feature_map(scaled=True),
        "cold items stay zero": feature_map(cold=0.0),
    },
    "check_tokens": {
        "a preference in the first message": tokens_sent(first=1),
        "a last block of full length": tokens_sent(whole=False),
        "direct inference only at the end": tokens_sent(repeated=False),
    },
    "check_delay": {
        "summaries before the change": delay(-np.inf),
        "a summary without an item of the new taste": delay(0),
        "from the first purchase": lambda nearer, k, change: delay(1)(nearer, k, change) + change,
        "blocks": lambda nearer, k, change: delay(1)(nearer, k, change) / k,
    },
    "check_items": {
        "not whole blocks": lambda strength, k: strength + 2,
        "without the old votes": lambda strength, k: -(-2 // k) * k,
        "mentioned": lambda strength, k: -(-(strength + 1) // k) * k,
        "floor": lambda strength, k: (strength + 2) // k * k,
    },
    "check_decayed": {
        "once an item": decayed(lambda decay, age, later: decay**later),
        "only once": decayed(lambda decay, age, later: decay if age else 1),
        "not at all": decayed(lambda decay, age, later: 1),
        "the most frequent": decayed(by_block, lambda n, others: n > max(others, default=0)),
        "half of the votes": decayed(by_block, lambda n, others: n >= sum(others)),
    },
    "check_corrected": {
        "the probability, not the odds": lambda p, n, m: p * n / m,
        "the wrong way round": lambda p, n, m: corrected(p, m, n),
        "odds": lambda p, n, m: p / (1 - p) * n / m,
        "the share of the positives": lambda p, n, m: p * (n + 1) / (m + 1),
    },
    "check_pooled": {
        "the mean over users": all_pairs_auc(by_user=True),
        "ties are lost": all_pairs_auc(tie=0),
        "ties are won": all_pairs_auc(tie=1),
    },
    "check_released": {
        "the answers alone": released_loss(first=0),
        "padding, too": released_loss(padded=True),
        "the mean of the rows": released_loss(by_row=True),
        "each token from its own state": released_loss(shift=0),
    },
    "check_listwise": {
        "binary": lambda z: binary_cross_entropy_with_logits(z, torch.eye(z.shape[1])[0].expand_as(z)),
        "the positive in the last column": listwise_loss(column=5),
        "the sum": listwise_loss(reduction="sum"),
    },
    "check_profile_at": {
        "up to now": profile_at(lambda time, now: time <= now),
        "all of them": profile_at(lambda time, now: True),
        "one too few": profile_at(lambda time, now: time < now - 1),
        "in the order of the store": profile_at(by_time=False),
        "the newest first": lambda generate, texts, times, now, block=3: profile_at(lambda time, now: -time < now)(
            generate, texts, -np.array(times), now, block
        ),
        "the whole history at once": profile_at(size=99),
    },
}
"""Check -> what is wrong -> an answer."""

# Chapter 4 ------------------------------------------------------------------------------------------------------------


def leaks(change, skip_last=False):
    """An answer to exercise 4.2, which changes one position at a time."""

    def answer(model, inputs):
        outputs = model(inputs)
        for later in range(1, inputs.shape[1] - skip_last):
            changed = inputs.clone()
            changed[:, later] = change(changed[:, later])
            if not torch.allclose(model(changed)[:, :later], outputs[:, :later]):
                return True
        return False

    return answer


def multiplications(pairs=lambda lengths: lengths * (lengths + 1) // 2, processed=0):
    """An answer to exercise 4.3.

    Args:
        pairs: positions -> pairs of a query and a key.
        processed: 1 if the last generated item is processed, too.
    """

    def answer(num_layers, dim, history, steps, cached):
        lengths = history + np.arange(steps + processed)
        costs = num_layers * (12 * dim**2 * lengths + 2 * dim * pairs(lengths))
        return int(costs[-1] if cached else costs.sum())

    return answer


class Cache:
    """An answer to exercise 4.4, with a mistake or none."""

    def __init__(self, mistake, *sizes):
        self.mistake, self.memory, self.length = mistake, torch.zeros(2, *sizes), 0

    def extend(self, keys, values):
        start = 0 if self.mistake == "overwrites" else self.length
        end = start + keys.shape[2]
        if end > self.memory.shape[3]:
            if self.mistake == "no limit":
                self.memory = torch.cat([self.memory, self.memory], dim=3)
            else:
                raise ValueError(end)
        if self.mistake == "copies":
            self.memory = self.memory.clone()
        self.memory[:, :, :, start:end], self.length = torch.stack([keys, values]), end
        return self.memory[:, :, :, : None if self.mistake == "all of the memory" else end].unbind()


def gated(per_item=True, alone=True, scalar=False, sums=False, of_text=False):
    """An answer to exercise 4.8.

    Args:
        per_item: the gate depends on the item.
        alone: a missing modality is recognised.
        scalar: one gate for all numbers of an item.
        sums: both gates are 1.
        of_text: the gate is computed from the text alone.
    """

    class Gated(torch.nn.Module):
        def __init__(self, text, image, dim):
            super().__init__()
            self.maps = torch.nn.ModuleList(torch.nn.Linear(size, dim, bias=False) for size in (text, image))
            self.gate = torch.nn.Linear(text + image, 1 if scalar else dim)

        def forward(self, features):
            seen = [features[0], features[1] * (not of_text)]
            gate = self.gate(torch.cat(seen, 1) * per_item).sigmoid()
            if alone:
                has_text, has_image = (part.any(1, keepdim=True) for part in features)
                gate = torch.where(has_image, gate * has_text, 1.0)
            text, image = (one(part) for one, part in zip(self.maps, features, strict=True))
            return text + image if sums else gate * text + (1 - gate) * image

    return Gated


def corrected_loss(correct=lambda logits, q: logits - q.log()):
    """An answer to exercise 4.9."""
    return lambda logits, q: cross_entropy(correct(logits, q), torch.zeros(len(q), dtype=torch.long))


def only_negatives(logits, q):
    """The target is left as it is."""
    return torch.cat([logits[:, :1], logits[:, 1:] - q[:, 1:].log()], 1)


def top_p(keep=lambda ordered, p: ordered.cumsum(0) - ordered < p, late=False):
    """An answer to exercise 4.12.

    Args:
        keep: (V,) sorted probabilities, p -> (V,) whether each is in the nucleus.
        late: exclude tokens after the nucleus has been determined.
    """

    def answer(log_probabilities, prefix, num_items, p, generator):
        sampled = []
        for _ in range(num_items):
            row = log_probabilities(torch.tensor([[*prefix, *sampled]]))[0].exp()
            used = [token - 1 for token in (*prefix, *sampled) if token <= len(row)]
            if not late:
                row = row.index_fill(0, torch.tensor(used, dtype=torch.long), 0)
            row[row.sort(descending=True).indices[~keep(row.sort(descending=True).values / row.sum(), p)]] = 0
            row[used] = 0
            sampled.append(int(torch.multinomial(row + 1e-30, 1, generator=generator)) + 1)
        return sampled

    return answer


CORRECT |= {
    "check_peeks": leaks(lambda x: x + torch.linspace(-1, 1, x.shape[-1])),
    "check_multiplications": multiplications(),
    "check_fixed_cache": lambda num_seqs, num_heads, max_len, head_dim: Cache(
        "", num_seqs, num_heads, max_len, head_dim
    ),
    "check_gated": gated(),
    "check_corrected_loss": corrected_loss(),
    "check_top_p": top_p(),
}
WRONG |= {
    "check_peeks": {
        "a constant, which a norm subtracts": leaks(lambda x: x + 1),
        "not the last position": leaks(lambda x: x + torch.linspace(-1, 1, x.shape[-1]), skip_last=True),
    },
    "check_multiplications": {
        "without the mask": multiplications(lambda lengths: lengths**2),
        "only earlier positions": multiplications(lambda lengths: lengths * (lengths - 1) // 2),
        "the last item is processed": multiplications(processed=1),
    },
    "check_fixed_cache": {
        mistake: lambda *sizes, mistake=mistake: Cache(mistake, *sizes)
        for mistake in ("overwrites", "no limit", "copies", "all of the memory")
    },
    "check_gated": {
        "the sum": gated(sums=True),
        "one gate for all items": gated(per_item=False),
        "a missing modality takes its share": gated(alone=False),
        "one number for each item": gated(scalar=True),
        "a gate from the text alone": gated(of_text=True),
    },
    "check_corrected_loss": {
        "none": corrected_loss(lambda logits, q: logits),
        "added": corrected_loss(lambda logits, q: logits + q.log()),
        "q itself": corrected_loss(lambda logits, q: logits - q),
        "the negatives only": corrected_loss(only_negatives),
    },
    "check_top_p": {
        "at most p": top_p(lambda ordered, p: (ordered.cumsum(0) <= p) | (ordered == ordered[0])),
        "the history is excluded from the nucleus": top_p(late=True),
        "greedy": top_p(lambda ordered, p: ordered == ordered[0]),
        "all items": top_p(lambda ordered, p: ordered >= 0),
    },
}


def non_inferior(decides=lambda low, mean: low, margin=lambda share, one, other: share * other.mean()):
    """An answer to exercise 5.10."""

    def answer(one, other, share):
        d = one - other
        low = d.mean() - 1.96 * d.std(ddof=1) / len(d) ** 0.5
        return low, bool(decides(low, d.mean()) > -margin(share, one, other))

    return answer


CORRECT["check_non_inferior"] = non_inferior()
WRONG["check_non_inferior"] = {
    "the mean decides": non_inferior(decides=lambda low, mean: mean),
    "an absolute margin": non_inferior(margin=lambda share, one, other: share),
    "a share of the cheap system": non_inferior(margin=lambda share, one, other: share * one.mean()),
}


def cider_by(words_of):
    """An answer to exercise 6.16, with the words that the references of an image add to the counts."""

    def cider_of_words(texts, references):
        images = Counter(word for own in references for word in words_of(own))

        def vector(text):
            row = {word: n * np.log(len(texts) / max(images[word], 1)) for word, n in Counter(text.split()).items()}
            return row, np.linalg.norm([*row.values()]) or 1.0

        def cosine(one, other):
            return sum(x * other[0].get(word, 0) for word, x in one[0].items()) / one[1] / other[1]

        pairs = zip(texts, references, strict=True)
        return np.array([np.mean([cosine(vector(text), vector(one)) for one in own]) for text, own in pairs])

    return cider_of_words


def shops_apart(users_of):
    """An answer to exercise 6.17, with the variance that users explain."""

    def between_shops(means, errors):
        rest, users = max(means.var(ddof=1) - users_of(errors), 0.0), np.mean(errors**2)
        return means.mean(), rest**0.5, ((rest + users) / len(means)) ** 0.5

    return between_shops


CORRECT["check_cider_of_words"] = cider_by(lambda own: {*" ".join(own).split()})
CORRECT["check_between_shops"] = shops_apart(lambda errors: np.mean(errors**2))
WRONG["check_cider_of_words"] = {"captions": cider_by(lambda own: [word for text in own for word in {*text.split()}])}
WRONG["check_between_shops"] = {"the mean, then the square": shops_apart(lambda errors: np.mean(errors) ** 2)}


def within_groups(mean=lambda losses: np.concatenate(losses).mean()):
    """An answer to exercise 2.2; ``mean`` is over the losses of each group's pairs."""

    def answer(images, texts, groups, temperature):
        logits = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(texts).T / temperature
        losses = []
        for rows in (np.flatnonzero(groups == group) for group in np.unique(groups)):
            own = logits[rows][:, rows]
            losses.append(-(own.log_softmax(1) + own.log_softmax(0)).diagonal().numpy() / 2)
        return mean(losses)

    return answer


CORRECT["check_hard_info_nce"] = within_groups()
WRONG["check_hard_info_nce"] = {
    "each group counts the same": within_groups(lambda losses: np.mean([loss.mean() for loss in losses])),
}


def queue_latencies(before=True):
    """An answer to exercise 9.2; a request waits for the seconds of the one before it, or else for its own."""

    def answer(arrivals, seconds):
        waits = [0.0]
        for n in range(1, len(arrivals)):
            waits.append(max(0, waits[-1] + seconds[n - before] - (arrivals[n] - arrivals[n - 1])))
        return waits + np.asarray(seconds)

    return answer


CORRECT["check_latencies"] = queue_latencies()
WRONG["check_latencies"] = {"its own seconds": queue_latencies(before=False)}


def recall_of(row_by_row=True):
    """An answer to exercise 9.10."""

    def answer(found, exact):
        pairs = zip(found, exact, strict=True) if row_by_row else [(found, exact)]
        return np.mean([np.isin(*own).mean() for own in pairs])

    return answer


CORRECT["check_recall"] = recall_of()
WRONG["check_recall"] = {"items of the other queries": recall_of(row_by_row=False)}


def examination(part=lambda share: share[0]):
    """An answer to exercise 9.7; ``part`` is what the shares of clicks are divided by."""

    def answer(position, clicked):
        share = np.bincount(position, clicked)[1:] / np.bincount(position)[1:]
        return share / part(share)

    return answer


CORRECT["check_examination"] = examination()
WRONG["check_examination"] = {"over the largest": examination(np.max)}


def int8_product(to_integer=np.rint, scale=lambda of_x, of_w: of_x * of_w.T):
    """An answer to exercise 9.12."""

    def answer(x, w):
        scales = [abs(own).max(axis=1, keepdims=True) / 127 for own in (x, w)]
        qx, qw = (to_integer(own / s).astype(np.int32) for own, s in zip((x, w), scales, strict=True))
        return scale(*scales) * (qx @ qw.T)

    return answer


CORRECT["check_int8_product"] = int8_product()
WRONG["check_int8_product"] = {
    "truncated": int8_product(np.trunc),
    "the scale of x only": int8_product(scale=lambda of_x, of_w: of_x),
}

CHECKS = {check: (imports, cells) for imports, check, cells in (parameter.values for parameter in ALL)}


@pytest.mark.parametrize(("check", "wrong"), [(check, wrong) for check in WRONG for wrong in WRONG[check]])
def test_check_refuses_a_wrong_answer(check, wrong):
    run = fresh(*CHECKS[check])[check]
    run(CORRECT[check])  # so that the difference is what is wrong
    with pytest.raises(AssertionError):
        run(WRONG[check][wrong])
