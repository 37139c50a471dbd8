"""Job folders: a recipe with its model, code and files, to be run elsewhere.

``export_job`` writes, ``load_job`` reads::

    fedavg/
      job.json              the recipe's name, its arguments, what was added to it
      model.safetensors     the first model, with its framework in the metadata
      code/                 scripts, files of functions, and modules of the user that they import
      code-2/               ... of another folder than the first
      files/                checkpoints, models and whatever else arguments name
      client_files/         what add_client_file and add_server_file were given
      server_files/

Arguments are plain JSON; what JSON has not is an object with one key that begins with "$":
``$function``, ``$object``, ``$file``, ``$arrays``, ``$array``, ``$float``. ``encoding`` and
``decoding`` are each other's inverse, ``names`` says which names a folder may have, ``code`` finds
what user code imports. docs/decisions/0014 says what is trusted.
"""

from __future__ import annotations

from flare_async.jobs.folders.export import export_job
from flare_async.jobs.folders.load import load_job

__all__ = ["export_job", "load_job"]
