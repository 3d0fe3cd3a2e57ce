"""Loads a connector's folder and the embedder that it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regionsearch.errors import InvalidRequest, ModelUnavailable
from regionsearch.models.checkpoints import locate, weights_hash
from regionsearch.models.connector.connector_folder import FORMAT, check_base, read_config
from regionsearch.models.reference import ModelReference
from regionsearch.models.registry import ModelRegistry
from regionsearch.models.runtime import Runtime

if TYPE_CHECKING:
    from regionsearch.models.connector.embedder import ConnectorEmbedder


def load_embedder(reference: ModelReference, runtime: Runtime) -> ConnectorEmbedder:
    """The embedder of a folder that `regionsearch train connector` wrote.

    Raises InvalidRequest for a reference without a folder, ModelUnavailable when the folder holds no
    connector, when its base cannot be loaded, or when the base is not the one that it was trained on.
    """
    reference.check_options({})
    if not reference.location:
        raise InvalidRequest("model 'connector' needs the folder of a trained one: connector:FOLDER")
    folder = locate(reference.location)
    config = read_config(folder)
    check_base(ModelReference.parse(config.base.name))
    base = ModelRegistry(runtime=runtime).embedder(config.base.name)
    if not base.info.fingerprint.same_model(config.base):
        raise ModelUnavailable(
            f"{folder} was trained on {config.base}, but {base.info.fingerprint} is what is here"
        )
    from regionsearch.models.connector.connector_map import WEIGHTS_FILE, read_map
    from regionsearch.models.connector.embedder import ConnectorEmbedder

    connector = read_map(folder, base.info.dimension)
    stands_on = [config.base.kind, config.base.weights, config.base.dimension, config.base.preprocessing]
    weights = weights_hash([folder / WEIGHTS_FILE], {"base": stands_on, "format": FORMAT})
    return ConnectorEmbedder(base, connector, str(reference), weights, config.background)
