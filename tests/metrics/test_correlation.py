import numpy as np
import pytest

from gan_denoise.metrics import Refused, correlation
from gan_denoise.metrics.correlation import cross_correlation


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal(3000)


@pytest.mark.parametrize("block", [2**18, 700])
@pytest.mark.parametrize("delay", [-20, 0, 7])
def test_it_is_the_inner_product_of_the_shifted_signals(noise, monkeypatch, block, delay):
    monkeypatch.setattr(correlation, "BLOCK", block)
    clean, estimate = noise[100:2000], 3 - 2 * noise[100 - delay : 1500 - delay]
    found = cross_correlation(clean, estimate, 20)
    units = [(x - x.mean()) / np.linalg.norm(x - x.mean()) for x in (clean, estimate)]
    expected = [units[0][max(-lag, 0) : len(units[1]) - lag] @ units[1][max(lag, 0) :][
        : len(units[0]) - max(-lag, 0)] for lag in range(-20, 21)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert int(np.argmax(np.abs(found))) - 20 == delay
    assert found[20 + delay] < -0.8  # inverted


def test_a_constant_signal_is_refused(noise):
    for name, pair in (("estimate", (noise, np.ones(3000))), ("clean", (np.zeros(3000), noise))):
        with pytest.raises(Refused, match=f"^{name} is silent"):
            cross_correlation(*pair, 10)
