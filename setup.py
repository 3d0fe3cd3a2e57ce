"""Compiles proto/ at build time; all metadata is in pyproject.toml.

The generated modules land in regionsearch/v1 (the proto package `regionsearch.v1`) and are not committed.
An editable install generates them in the source tree, any other install in the build folder.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PROTO_ROOT = ROOT / "proto"


def compile_protos(target: Path) -> None:
    """Writes `regionsearch/v1/*_pb2.py`, their stubs and type hints below `target`, over older ones."""
    import grpc_tools
    from grpc_tools import protoc

    sources = sorted(PROTO_ROOT.rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [
        "protoc",
        f"-I{PROTO_ROOT}",
        f"-I{well_known}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        *(str(source) for source in sources),
    ]
    package = target / "regionsearch" / "v1"
    # A module whose .proto is gone must not live on.
    for generated in package.glob("*_pb2*.py*"):
        generated.unlink()
    if protoc.main(arguments) != 0:
        raise SystemExit("the protocol definitions in proto/ do not compile; see the messages above")
    (package / "__init__.py").write_text(
        '"""Generated from proto/regionsearch/v1 by setup.py."""\n', encoding="utf-8"
    )


class BuildWithProtos(build_py):
    def run(self) -> None:
        if self.editable_mode:
            compile_protos(ROOT)
            super().run()
        else:
            super().run()
            compile_protos(Path(self.build_lib))


setup(cmdclass={"build_py": BuildWithProtos})
