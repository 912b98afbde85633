"""How far a batch of vectors is from the one that it is to be: what students, and prefixes of vectors, learn by."""

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize

Unit = torch.Tensor
"""float32 [batch, dim], rows of length 1."""


def mse(student: Unit, teacher: Unit) -> torch.Tensor:
    """Return the mean squared distance of the rows (Reimers and Gurevych 2020, arXiv:2004.09813), a scalar.

    The squares are summed over the dimensions, so that the value does not depend on the vectors' length;
    for unit vectors it orders as the cosine does.
    """
    return (student - teacher).square().sum(1).mean()


def cosine(student: Unit, teacher: Unit) -> torch.Tensor:
    """Return one minus the mean cosine of the rows (Sanh et al. 2019, arXiv:1910.01108), a scalar."""
    return 1 - (normalize(student, dim=1) * normalize(teacher, dim=1)).sum(1).mean()


def pairwise(student: Unit, teacher: Unit, power: float) -> torch.Tensor:
    """Return the weighted mean squared difference of the rows' similarities to each other, a scalar.

    Similarity-preserving distillation (Tung and Mori 2019, arXiv:1907.09682; cf. Park et al. 2019,
    arXiv:1904.05068): the two sides may differ in dimension. A pair weighs as its teacher similarity to
    ``power``: nearly all pairs of a batch are unrelated, and what matters is the order of the related ones.
    Multiplied by the batch's size, so that it is of the size of a squared distance.
    """
    student, teacher = normalize(student, dim=1), normalize(teacher, dim=1)
    wanted = (teacher @ teacher.T).fill_diagonal_(0)
    weights = wanted.clamp(min=0) ** power if power else torch.ones_like(wanted).fill_diagonal_(0)
    difference = (student @ student.T - wanted).square()
    return len(student) * (weights * difference).sum() / weights.sum().clamp(min=1e-6)


def ranking(student: Unit, teacher: Unit, temperature: float) -> torch.Tensor:
    """Return the cross-entropy of a row's own teacher among the batch's (Henderson et al. 2017, arXiv:1705.00652)."""
    scores = normalize(student, dim=1) @ normalize(teacher, dim=1).T / temperature
    return cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def order(student: Unit, teacher: Unit, bank: Unit, temperature: float) -> torch.Tensor:
    """Return the Kullback-Leibler divergence of how the rows rank a bank from how the teacher's rows do, a scalar.

    ``bank``, float32 [n, dim], are vectors of the teacher; the divergence is of the softmax of the similarities to
    them, over ``temperature`` (SEED: Fang et al. 2021, arXiv:2101.04731). The bank stays the teacher's: a student that
    learns so searches an index that the teacher made.
    """
    keys = normalize(bank, dim=1).T
    wanted = log_softmax(normalize(teacher, dim=1) @ keys / temperature, dim=1)
    return kl_div(
        log_softmax(normalize(student, dim=1) @ keys / temperature, dim=1),
        wanted,
        reduction="batchmean",
        log_target=True,
    )


def margin(student: Unit, teacher: Unit, near: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of the rows' margins between their neighbours from the teacher's, a scalar.

    ``near``, float32 [batch, n, dim], are the teacher's vectors of n neighbours of each row, 2 or more. A margin is how
    much more similar a row is to one of them than to another (Margin-MSE: Hofstätter et al. 2020, arXiv:2010.02666);
    without labels each pair of neighbours has one. Multiplied by the dimensions, so that it is of the size of a
    squared distance: of a difference of vectors, a direction holds one of ``dim`` parts.
    """
    difference = normalize(student, dim=1) - normalize(teacher, dim=1)
    off = (normalize(near, dim=2) * difference[:, None]).sum(2)
    return 2 * student.shape[1] * off.var(dim=1).mean()  # twice the variance is the mean square over all pairs
