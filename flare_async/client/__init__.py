"""What a training function or script imports: the model record and its constants.

Written so that a script needs another import line and nothing else::

    import flare_async.client as flare

    def train(model: flare.FLModel, site):
        ...
        return flare.FLModel(params=..., metrics={"accuracy": 0.9})
"""

from __future__ import annotations

from flare_async.model import FLModel, MetaKey, NPConstants, ParamsType

__all__ = ["FLModel", "MetaKey", "NPConstants", "ParamsType"]
