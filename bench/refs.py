"""References to offers as text, for the other process."""

from __future__ import annotations

import json
from dataclasses import asdict

from flare_async.transfer.pull import TensorRef

__all__ = ["ref_from", "ref_text"]


def ref_text(ref: TensorRef) -> str:
    """Return a reference as text."""
    return json.dumps({**asdict(ref), "layout": ref.layout.hex()})


def ref_from(text: str) -> TensorRef:
    """Return what ``ref_text`` wrote."""
    fields = json.loads(text)
    fields["layout"] = bytes.fromhex(fields["layout"])
    return TensorRef(**fields)
