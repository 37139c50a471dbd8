"""Tensors: how they are named, offered, pulled, staged and summed."""

from __future__ import annotations

__all__: list[str] = []
