"""Privacy filters on whole arrays, as their papers and NVFlare's users know them."""

from __future__ import annotations

import numpy as np

__all__ = ["gaussian_delta", "percentile_privacy", "svt"]


def percentile_privacy(arrays, percentile, gamma, steps):
    """Return the changes at or above the percentile of all sizes, clipped."""
    by_step = {name: array / steps for name, array in arrays.items()}
    sizes = np.abs(np.concatenate([array.ravel() for array in by_step.values()]))
    cutoff = np.percentile(sizes, percentile)
    return {
        name: np.where(np.abs(array) >= cutoff, np.clip(array, -gamma, gamma), 0) * steps
        for name, array in by_step.items()
    }


def svt(arrays, fraction, *, steps, rng, replace, epsilon=0.1, noise_var=0.1, gamma=1e-5, tau=1e-6):
    """Return noisy values of those that have passed a noisy threshold."""
    flat = np.concatenate([array.ravel().astype(float) for array in arrays.values()]) / steps
    count = int(min(np.ceil(flat.size * fraction), flat.size))
    threshold = tau + rng.laplace(scale=gamma * 2 / epsilon)
    spread = gamma * 4 * count / (epsilon * (2 * count) ** (2 / 3))
    size, accepted, left = np.abs(np.clip(flat, -gamma, gamma)), set(), np.arange(flat.size)
    while len(accepted) < count:
        above = size[left] + rng.laplace(scale=spread, size=left.size) >= threshold
        accepted |= set(left[above].tolist())
        left = left[~above]
    chosen = rng.choice(np.array(sorted(accepted)), size=count, replace=replace)
    noise = rng.laplace(scale=gamma * 2 / noise_var, size=count)
    sent = np.zeros_like(flat)
    sent[chosen] = np.clip(flat[chosen] + noise, -gamma, gamma)
    ends = np.cumsum([array.size for array in arrays.values()])[:-1]
    parts = np.split(sent * steps, ends)
    return {
        name: part.reshape(arrays[name].shape) for name, part in zip(arrays, parts, strict=True)
    }


def gaussian_delta(noise, epsilon):
    """Return the integral of what two normal densities a distance of 1 apart differ by."""
    at = np.linspace(-12 * noise, 12 * noise + 1, 400_001)
    density = [np.exp(-((at - mean) ** 2) / (2 * noise**2)) for mean in (1.0, 0.0)]
    excess = np.maximum(density[0] - np.exp(epsilon) * density[1], 0)
    return float(np.trapezoid(excess, at) / (noise * np.sqrt(2 * np.pi)))
