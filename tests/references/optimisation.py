"""Federated optimisation in one process and in float64, written down from the papers."""

from __future__ import annotations

import numpy as np

from tests.references.regression import RATE, STEPS, WIDTH, descend, gradient, loss


def start():
    """Return the first weights."""
    return np.array([0.3, -0.1, 0.2])


def mean(values, weights=None):
    """Return the weighted mean of some arrays."""
    weights = [1.0] * len(values) if weights is None else weights
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def fedprox(sites, rounds, mu):
    """Li et al. 2020: descent on the loss with the proximal term, then the plain mean."""
    w = start()
    for _ in range(rounds):
        w = mean([descend(w, k, extra=lambda v, w=w: mu * (v - w)) for k in sites])
    return w


def fedopt(sites, rounds, rule, lr, **given):
    """Reddi et al. 2021, algorithm 2, with the sites' steps (1 + site) as weights."""
    w, m = start(), np.zeros(WIDTH)
    b1, b2, tau = given.get("beta1", 0.9), given.get("beta2", 0.99), given.get("tau", 1e-3)
    v = np.full(WIDTH, tau**2)
    for number in range(rounds):
        delta = mean([descend(w, k) - w for k in sites], [1.0 + k for k in sites])
        rate = lr(number) if callable(lr) else lr
        if rule == "sgd":
            m = given.get("momentum", 0.0) * m + delta
            w = w + rate * m
            continue
        m = b1 * m + (1 - b1) * delta
        square = delta**2
        if rule == "adagrad":
            v = v + square
        elif rule == "adam":
            v = b2 * v + (1 - b2) * square
        else:
            v = v - (1 - b2) * square * np.sign(v - square)
        w = w + rate * m / (np.sqrt(v) + tau)
    return w


def scaffold(turns, total, server_lr):
    """Karimireddy et al. 2020, option II; returns the weights, the control and the sites' own.

    ``turns`` are the sites of each round.
    """
    x, c = start(), np.zeros(WIDTH)
    own = {k: np.zeros(WIDTH) for k in range(total)}
    for sites in turns:
        moved, changed = [], []
        for k in sites:
            y = x.copy()
            for _ in range(STEPS):
                y = y - RATE * (gradient(y, k) - own[k] + c)
            new = own[k] - c + (x - y) / (STEPS * RATE)
            moved.append(y - x)
            changed.append(new - own[k])
            own[k] = new
        x = x + server_lr * mean(moved)
        c = c + len(sites) / total * mean(changed)
    return x, c, own


def qfedavg(sites, rounds, q, lr):
    """Li et al. 2020, algorithm 2."""
    w, big = start(), 1 / lr
    for _ in range(rounds):
        total, bound = np.zeros(WIDTH), 0.0
        for k in sites:
            f = loss(w, k)
            dw = big * (w - descend(w, k))
            total = total + f**q * dw
            bound += q * f ** (q - 1) * float(dw @ dw) + big * f**q
        w = w - total / bound
    return w


def ditto(sites, rounds, strength):
    """Li et al. 2021, algorithm 1; returns the global weights and the personal ones."""
    w, own = start(), {k: start() for k in sites}
    for _ in range(rounds):
        own = {k: descend(own[k], k, extra=lambda v, w=w: strength * (v - w)) for k in sites}
        w = mean([descend(w, k) for k in sites])
    return w, own
