"""Match a student's inner states with its teacher's: token states and attention, layer by layer."""

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from compressor.core.errors import RecipeError
from compressor.distil.student.layers import find_layers
from compressor.models.attention import use_attention
from compressor.models.sentence_model import is_static, transformer_of

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Matching(torch.nn.Module):
    """Losses of the states of a batch (TinyBERT: Jiao et al. 2020, arXiv:1909.10351); the teacher runs beside.

    ``states`` and ``attentions`` say which of the teacher's layers each of the student's is held against. States and
    embeddings of another width go through a linear map that is trained along and not kept. The teacher is run on
    each batch and its states are dropped again: kept, they would take hundreds of gigabytes.
    """

    def __init__(
        self, teacher: Any, student: Any, states: Sequence[int], attentions: Sequence[int], names: set[str]
    ) -> None:
        """Take Hugging Face models; ``names`` of ``hidden``, ``attention`` and ``embeddings``."""
        super().__init__()
        self.states, self.attentions, self.names = list(states), list(attentions), names
        self.teacher = [teacher]  # in a list: no module of this one, so neither trained nor saved
        teacher.requires_grad_(False).eval()
        for model in (teacher, student):
            if "attention" in names:
                use_attention(model, "eager")
        self.own, self.wanted = Capture(student), Capture(teacher)
        own, wanted = (int(model.config.hidden_size) for model in (student, teacher))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same in each run and process
            self.maps = torch.nn.ModuleList(_between(own, wanted) for _ in self.states)
            self.embedded = _between(own, wanted) if "embeddings" in names else torch.nn.Identity()

    def forward(self, features: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the losses by name, scalars, of the batch that the student was just run on."""
        inputs = {name: features[name] for name in _INPUTS if name in features}
        device, half = inputs["input_ids"].device, bool(self.own.dtype == torch.bfloat16)
        if self.teacher[0].device != device:
            self.teacher[0].to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            self.teacher[0](**inputs)
        mask = inputs["attention_mask"].bool()
        losses = {}
        if "hidden" in self.names:
            pairs = zip(self.maps, self.own.states, [self.wanted.states[i] for i in self.states], strict=True)
            losses["hidden"] = torch.stack([_of_states(to(a.float()), b.float(), mask) for to, a, b in pairs]).mean()
        if "embeddings" in self.names:
            own, wanted = self.own.embedded.float(), self.wanted.embedded.float()
            losses["embeddings"] = _of_states(self.embedded(own), wanted, mask)
        if "attention" in self.names:
            both = zip(self.own.attentions, [self.wanted.attentions[i] for i in self.attentions], strict=True)
            losses["attention"] = torch.stack([_of_attention(a.float(), b.float(), mask) for a, b in both]).mean()
        self.own.clear()
        self.wanted.clear()
        return losses


class States(Matching):
    """A student encoder's states held against its teacher's.

    A student's layer stands for the teacher's layers from the one it was made of up to the next that was kept:
    its states are held against those after the last of these, its attention against that of the first.
    """

    def __init__(
        self, teacher: SentenceTransformer, student: SentenceTransformer, kept: Sequence[int], names: set[str]
    ) -> None:
        if is_static(student):
            raise RecipeError(f"distil.{min(names)}: a static student has no layers to match; leave it at 0")
        if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
            raise RecipeError(f"distil.{min(names)}: student and teacher cut texts differently; leave it at 0")
        depth = len(find_layers(transformer_of(teacher))[2])
        count = len(find_layers(transformer_of(student))[2])
        first = list(kept) or [i * depth // count for i in range(count)]
        states = [*(i - 1 for i in first[1:]), depth - 1]
        super().__init__(transformer_of(teacher), transformer_of(student), states, first, names)


def _between(own: int, wanted: int) -> torch.nn.Module:
    return torch.nn.Linear(own, wanted, bias=False) if own != wanted else torch.nn.Identity()


class Capture:
    """What the layers of a model gave in its last run, found by shape: states [b, s, d], attention [b, h, s, s]."""

    def __init__(self, model: Any) -> None:
        self.states: list[torch.Tensor] = []
        self.attentions: list[torch.Tensor] = []
        self.embedded = torch.zeros(0)
        self.dtype = torch.float32
        layers = find_layers(model)[2]
        layers[0].register_forward_pre_hook(self._begin, with_kwargs=True)
        for layer in layers:
            layer.register_forward_hook(self._layer)
            for module in layer.modules():
                if isinstance(module, torch.nn.Linear):
                    module.register_forward_hook(self._linear)
                elif module is not layer:
                    module.register_forward_hook(self._inner)

    def clear(self) -> None:
        """Let go of the last run's tensors."""
        self.states, self.attentions, self.embedded = [], [], torch.zeros(0)

    def _begin(self, module: Any, inputs: Any, named: Any) -> None:
        self.clear()  # a run may have been for its vectors only
        self.embedded = inputs[0] if inputs else named["hidden_states"]

    def _linear(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        self.dtype = output.dtype

    def _layer(self, module: Any, inputs: Any, output: Any) -> None:
        self.states.append(output[0] if isinstance(output, tuple) else output)

    def _inner(self, module: Any, inputs: Any, output: Any) -> None:
        for value in output if isinstance(output, tuple) else ():
            square = isinstance(value, torch.Tensor) and value.ndim == 4 and value.shape[-1] == value.shape[-2]
            if square and len(self.attentions) == len(self.states):  # once a layer
                self.attentions.append(value)


def _of_states(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference over the tokens that are no padding."""
    return (student - teacher).square().mean(-1)[mask].mean()


def _of_attention(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of the attention, summed over what is attended to, over real tokens.

    Averaged over the heads first where their numbers differ.
    """
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    return (student - teacher).square().sum(-1).mean(1)[mask].mean()
