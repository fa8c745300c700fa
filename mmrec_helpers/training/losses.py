"""The losses of the recommenders, each defined once. InfoNCE and its relatives are taught, and live in ``lessons``."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_LOGITS = {"cpu": 2**18, "cuda": 2**27}
"""Logits that the catalogue's cross-entropy holds at once: on a CPU, what fits into its cache."""


class _CatalogueCrossEntropy(torch.autograd.Function):
    """``F.cross_entropy`` of (Q, I) logits computed chunk by chunk, loss and gradients in one pass.

    Holding all (Q, I) logits at once is what makes cross-entropy over a catalogue slow on a CPU.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, hidden: Tensor, embeddings: Tensor, bias: Tensor, columns: Tensor
    ) -> Tensor:
        gradients = torch.empty_like(hidden), torch.zeros_like(embeddings), torch.zeros_like(bias)
        loss, size = hidden.new_zeros(()), max(CHUNK_LOGITS[hidden.device.type] // len(embeddings), 1)
        chunks = (part.split(size) for part in (hidden, columns[:, None], gradients[0]))
        for chunk, column, hidden_gradient in zip(*chunks, strict=True):
            logits = torch.addmm(bias, chunk, embeddings.T).log_softmax(1)
            loss -= logits.gather(1, column).sum()
            gradient = logits.exp_().scatter_add_(1, column, logits.new_full((len(chunk), 1), -1.0))
            torch.mm(gradient, embeddings, out=hidden_gradient)
            gradients[1].addmm_(gradient.T, chunk)
            gradients[2].add_(gradient.sum(0))
        ctx.save_for_backward(*gradients)
        return loss / len(hidden)

    @staticmethod
    def backward(ctx: torch.autograd.function.BackwardCFunction, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient / len(ctx.saved_tensors[0])
        return *(gradient * part for part in ctx.saved_tensors), None


def catalogue_cross_entropy(hidden: Tensor, embeddings: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the whole catalogue.

    Args:
        hidden: (Q, D) outputs at Q positions.
        embeddings: (I, D); row i - 1 is item i.
        bias: (I,).
        targets: (Q,) next items, from 1 to I.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        return _CatalogueCrossEntropy.apply(hidden.float(), embeddings.float(), bias, targets - 1)


def sample_negatives(targets: Tensor, num_negatives: int, num_items: int) -> Tensor:
    """(Q, k) items sampled uniformly with replacement, never the (Q,) target of their row."""
    sampled = torch.randint(1, num_items, (len(targets), num_negatives), device=targets.device)  # 1..I - 1
    return sampled + (sampled >= targets[:, None])


def gbce_beta(num_negatives: int, num_items: int, calibration: float) -> float:
    r"""The power :math:`\beta` of gBCE {cite}`petrov2023gsasrec`, equation 7.

    With k negatives out of the other I - 1 items, :math:`\alpha = k / (I - 1)` is the sampling rate, and
    :math:`\beta = \alpha\,(t\,(1 - 1/\alpha) + 1/\alpha)` falls from 1 to it as t goes from 0 to 1.

    Args:
        num_negatives: k.
        num_items: I.
        calibration: t; 0 is binary cross-entropy, which overestimates probabilities, 1 removes all overconfidence.
    """
    sampling_rate = num_negatives / (num_items - 1)
    return sampling_rate * (calibration * (1 - 1 / sampling_rate) + 1 / sampling_rate)


def gbce_loss(positive: Tensor, negative: Tensor, beta: float) -> Tensor:
    r"""Mean over Q positions of :math:`-[\beta \log \sigma(s^+) + \sum_k \log(1 - \sigma(s^-_k))] / (k + 1)`.

    Args:
        positive: (Q,) scores of the targets.
        negative: (Q, k) scores of the negatives.
        beta: see ``gbce_beta``; 1 is binary cross-entropy.
    """
    return -(beta * F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean() / (negative.shape[1] + 1)


def bpr_loss(score_differences: Tensor) -> Tensor:
    """Mean of -log sigmoid of positive minus negative scores {cite}`rendle2009bpr`."""
    return -F.logsigmoid(score_differences).mean()
