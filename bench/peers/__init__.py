"""The same exchange by NVFlare, Flower and us: ``python -m bench.peers``.

``work``, ``nvflare_job``, ``nvflare_client`` and ``flower_app`` run in environments of their own,
without this package: they import nothing of it.
"""

__all__: list[str] = []
