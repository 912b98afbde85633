"""Peak rates are those of real products, on the threads that were asked for."""

import numpy as np
import pytest
import torch

from compressor.machine import peaks as module
from compressor.machine.describe import bf16_is_fast, saturates_here
from compressor.machine.peaks import measure_peaks


def test_peaks_are_measured_and_threads_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peaks = measure_peaks(seconds=0.0)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert list(peaks) == ["fp32_gflops", *(["bf16_gflops"] if bf16_is_fast() else []), "int8_gops"]
    assert all(0.1 < value < 1e6 for value in peaks.values())


def test_the_best_size_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    lasted = iter([1.0, 1.0, 0.5, 8.0, 1.0, 2.0])  # fp32, bf16, int8 at 512 and 1024
    monkeypatch.setattr(module, "_fastest", lambda product, seconds: next(lasted))
    monkeypatch.setattr(module, "bf16_is_fast", lambda: True)
    unit = 2 * 512**3 / 1e9
    assert list(measure_peaks(threads=1).values()) == pytest.approx([8 * unit, 2 * unit, 4 * unit])


def test_bf16_has_no_peak_where_it_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    lasted = iter([1.0, 1.0, 1.0, 2.0])
    monkeypatch.setattr(module, "_fastest", lambda product, seconds: next(lasted))
    monkeypatch.setattr(module, "bf16_is_fast", lambda: False)
    unit = 2 * 512**3 / 1e9
    assert measure_peaks(threads=1) == pytest.approx({"fp32_gflops": 8 * unit, "int8_gops": 4 * unit})


@pytest.mark.skipif(saturates_here(), reason="without VNNI its sums saturate")
def test_the_int8_product_is_a_product() -> None:
    [sums] = module._int8_product(64, 1)()  # type: ignore[misc]
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (64, 64), dtype=np.int8)
    activations = random.integers(0, 256, (64, 64), dtype=np.uint8)
    assert (sums == activations.astype(np.int64) @ weights.astype(np.int64)).all()


def test_threads_are_as_many_as_a_quota_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(module, "usable_cores", lambda: 3)
    monkeypatch.setattr(module, "_fastest", lambda product, seconds: 1.0)
    monkeypatch.setattr(module, "_int8_product", lambda size, count: counts.append(count))
    measure_peaks()
    assert counts == [3, 3]
    measure_peaks(threads=1)
    assert counts[2:] == [1, 1]
