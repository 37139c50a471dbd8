"""What a model has become minus what it was, tensor by tensor."""

from __future__ import annotations

import numpy as np

from flare_async.errors import TensorFormatError
from flare_async.transfer.kernel import narrow, widen
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = ["difference"]


def difference(new: TensorSet, old: TensorSet) -> TensorSet:
    """Return ``new - old`` in the tensors' own types; tied tensors stay tied.

    Raises:
        TensorFormatError: the sets differ in names, types or shapes, or hold truth values, which
            have no difference.
    """
    wrong = old.same_specs(new)
    if wrong:
        raise TensorFormatError("no difference of unlike models: " + "; ".join(wrong))
    views = {
        spec.name: _subtract(spec, new[spec.name], old[spec.name])
        for spec in new.specs
        if spec.name not in new.aliases
    }
    return TensorSet.from_views(new.specs, views, new.aliases)


def _subtract(spec: TensorSpec, new: memoryview, old: memoryview) -> memoryview:
    if spec.dtype == "BOOL":
        raise TensorFormatError(f"tensor {spec.name!r}: truth values have no difference")
    left, right = widen(spec.dtype, new), widen(spec.dtype, old)
    if np.issubdtype(left.dtype, np.floating):
        change = narrow(spec.dtype, np.subtract(left, right, dtype=left.dtype))
    else:
        change = left - right  # integers wrap around, and back when they are added
    return np.ascontiguousarray(change).view(np.uint8).data
