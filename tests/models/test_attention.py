"""Attention in bf16 is computed by what trains fastest on a CPU, and says the same."""

from typing import Any

import pytest
import torch
from families import random_transformer

from compressor.models import attention
from compressor.models.attention import FastAttention

FUSED = torch.nn.functional.scaled_dot_product_attention


def given(tokens: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 4, tokens, 8).bfloat16() for _ in range(3)]


def fast(*args: Any, **named: Any) -> torch.Tensor:
    with FastAttention(), torch.autocast("cpu", torch.bfloat16):
        return FUSED(*args, **named)


def masks(tokens: int) -> dict[str, torch.Tensor | None]:
    kept = torch.ones(2, 1, tokens, tokens, dtype=torch.bool)
    kept[1, ..., -3:] = False
    added = torch.zeros(kept.shape).masked_fill(~kept, torch.finfo(torch.bfloat16).min).bfloat16()
    return {"none": None, "kept": kept, "added": added}


@pytest.mark.parametrize("tokens", [9, 128, 130])
@pytest.mark.parametrize("mask", ["none", "kept", "added"])
def test_it_is_what_the_fused_one_gives(tokens: int, mask: str) -> None:
    parts, scores = given(tokens), masks(tokens)[mask]
    wanted = FUSED(*[part.float() for part in parts], attn_mask=None if scores is None else
                   scores if scores.dtype == torch.bool else scores.float(), scale=0.3)  # fmt: skip
    made = fast(*parts, attn_mask=scores, scale=0.3)
    assert made.dtype == torch.bfloat16
    assert torch.allclose(made.float(), wanted, atol=0.03)
    assert float((made.float() - wanted).square().mean().sqrt()) < 0.004


def test_many_tokens_and_special_kinds_run_fused_in_fp32() -> None:
    parts = given(130)
    assert torch.equal(fast(*parts), FUSED(*[part.float() for part in parts]).bfloat16())
    short = given(9)
    assert torch.equal(fast(*short, is_causal=True), FUSED(*[p.float() for p in short], is_causal=True).bfloat16())


def test_what_is_not_in_bf16_is_left_alone() -> None:
    parts = [part.float() for part in given(9)]
    with FastAttention():
        assert torch.equal(FUSED(*parts), FUSED(*parts))
        assert FUSED(*parts).dtype == torch.float32


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_families_are_computed_by_it(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    own = attention._plain

    def plain(query: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(query.dtype)
        return own(query, *rest)

    monkeypatch.setattr(attention, "_plain", plain)
    model = random_transformer(family, attn_implementation="sdpa")
    with FastAttention(), torch.autocast("cpu", torch.bfloat16):
        model(input_ids=torch.randint(1, 50, (2, 9)))[0].float().sum().backward()
    assert set(seen) == {torch.bfloat16}
