"""lessons/faster.py: what the generated vectors are made of, and the gradient of the distillation loss."""

import numpy as np
import torch
import torch.nn.functional as F

from mmrec_helpers.lessons.faster import distillation_loss, item_vectors, quantised, user_vectors


def tenth_nearest(x):
    """Mean cosine similarity of a vector with its tenth nearest."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.sort(unit @ unit.T, axis=1)[:, -11].mean()


def test_items_are_clustered_and_queries_are_no_items():
    items = item_vectors(500, 64, np.random.default_rng(0))
    queries = user_vectors(items, 50, np.random.default_rng(1))
    assert items.dtype == queries.dtype == np.float32
    assert np.array_equal(items, item_vectors(500, 64, np.random.default_rng(0)))
    assert tenth_nearest(items) > 1.3 * tenth_nearest(np.random.default_rng(0).normal(size=items.shape))
    assert not (queries[:, None] == items).all(2).any()


def test_a_number_is_off_by_half_a_step_of_its_own_row_at_most():
    x = np.random.default_rng(0).normal(size=(4, 50)) * [[1], [1], [1], [100]]
    for bits, steps in ((8, 127), (3, 3)):
        integers, scale = quantised(x, bits)
        assert integers.dtype == np.int8
        assert np.array_equal(abs(integers).max(1), [steps] * 4)
        assert (abs(scale * integers - x) <= scale / 2 + 1e-12).all()


def test_a_student_like_its_teacher_has_no_divergence_and_its_gradient_is_the_difference_of_probabilities():
    student = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher, targets = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 6, 2, 2, 1])
    same = distillation_loss(student, student.detach(), targets)
    assert torch.allclose(same, 0.5 * F.cross_entropy(student, targets))
    t, w = 3.0, 0.2
    distillation_loss(student, teacher, targets, t, w).backward()
    hard = student.softmax(1) - F.one_hot(targets, 7)
    soft = t * ((student / t).softmax(1) - (teacher / t).softmax(1))
    assert torch.allclose(student.grad, ((1 - w) * hard + w * soft) / 5, atol=1e-6)
