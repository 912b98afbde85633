"""What a reader is asked to learn: the labelled spans, and the teacher's logits over where an answer may stand."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.nn.functional import kl_div, log_softmax, softmax

from compressor.core.config import Config

Logits = torch.Tensor  # float32 [windows, tokens]
Valid = torch.Tensor  # bool [windows, tokens]: context, and the first token for no answer


class PredictionLayer(Config):
    """Prediction-layer distillation: how much the teacher's logits count beside the labels, and how."""

    weight: Annotated[float, Field(ge=0, le=1)] = 0.75
    """Share of the loss that is the teacher's; 0: labels alone, 1: the teacher alone."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Logits of both are divided by it in the Kullback-Leibler divergence, which is multiplied by its square."""
    match: Literal["kl", "mse"] = "kl"
    """Kullback-Leibler divergence of the distributions, or the squared difference of the logits."""

    def loss(self, student: tuple[Logits, Logits], labels: torch.Tensor, valid: Valid, teacher: Any = None) -> Any:
        """Return the loss of a batch, a scalar: ``labels`` as ``of_labels`` has them, ``teacher`` start and end logits.

        Start and end count half each.
        """
        nothing = student[0].new_zeros(())
        hard = of_labels(student, labels, valid) if self.weight < 1 else nothing
        soft = (
            [self._soft(*pair, valid) for pair in zip(student, teacher, strict=True)] if self.weight > 0 else [nothing]
        )
        return self.weight * sum(soft) / len(soft) + (1 - self.weight) * hard

    def _soft(self, student: Logits, teacher: Logits, valid: Valid) -> torch.Tensor:
        if self.match == "mse":
            return squared(student, teacher, valid)
        return divergence(student, teacher, valid, self.temperature)


def of_labels(student: tuple[Logits, Logits], labels: torch.Tensor, valid: Valid) -> torch.Tensor:
    """Return half the negative log-likelihood of a labelled answer, mean over the windows, a scalar.

    ``labels`` int64 [windows, answers, 2], first and last token, -1 where a window has no more answers. Of several
    any will do: their likelihoods are added (Clark and Gardner 2018, arXiv:1710.10723). Of one it is the mean of the
    cross-entropies of its start and its end among the valid tokens.
    """
    sides = [
        log_softmax(_within(side, valid), dim=1).gather(1, labels[..., i].clamp(min=0))
        for i, side in enumerate(student)
    ]
    likelihood = (sides[0] + sides[1]).masked_fill(labels[..., 0] < 0, -torch.inf)
    return -likelihood.logsumexp(dim=1).mean() / 2


def divergence(student: Logits, teacher: Logits, valid: Valid, temperature: float) -> torch.Tensor:
    """Return the mean Kullback-Leibler divergence of the student's distribution from the teacher's, times T squared.

    Hinton et al. 2015, arXiv:1503.02531: the square keeps the gradients of the size of the labels'. Both softmaxes
    run over the valid tokens alone: probability on padding or on the question teaches nothing.
    """
    own = log_softmax(_within(student, valid) / temperature, dim=1)
    wanted = softmax(_within(teacher, valid) / temperature, dim=1)
    # A masked token's probability is 0 on both sides; its log is finite, so that it adds 0 and not nan.
    return kl_div(own, wanted, reduction="batchmean") * temperature**2


def squared(student: Logits, teacher: Logits, valid: Valid) -> torch.Tensor:
    """Return the squared difference of the logits, mean over a window's valid tokens and over the windows, a scalar.

    Ba and Caruana 2014, arXiv:1312.6184; each side less its mean over the valid tokens, which no softmax sees.
    """
    count = valid.sum(dim=1, keepdim=True).clamp(min=1)
    centred = [(x * valid).sum(dim=1, keepdim=True) / count for x in (student, teacher)]
    difference = ((student - centred[0]) - (teacher - centred[1])) * valid
    return (difference.square().sum(dim=1, keepdim=True) / count).mean()


def _within(logits: Logits, valid: Valid) -> Logits:
    return logits.float().masked_fill(~valid, -1e4)
