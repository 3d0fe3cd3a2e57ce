"""One vector index of another project, in a process of its own: built once, then asked one query at a time.

Started by `benchmarks.peers`, with the Python that has the peers (benchmarks/peers-requirements.txt), as

    PYTHON benchmarks/peer_programs.py NAME FOLDER

FOLDER holds vectors.npy and queries.npy, (n, d) float32 unit vectors. Reads one JSON object a line from stdin
and answers each with one: `{"do": "build"}`, or `{"do": "ask", "variant": V, "setting": {...}, "first": i,
"last": j}`, which times every query by itself: the whole call of the client, without what makes row numbers
of its answer; by the clock and in processor time of all threads of the process. Knows nothing of
RegionSearch.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

K = 10
CONNECTIVITY = 16
EFFORT = 200
"""Of graphs while they are built: links of a node, and candidates that are looked at for them."""

Setting = Mapping[str, int]
Ask = Callable[[Any, Setting], Any]


class Peer:
    """variants: kinds of index that are built. packages: whose versions are told."""

    variants: Sequence[str]
    packages: Sequence[str]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        """Leaves at `path` what `open` opens."""
        raise NotImplementedError

    def open(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        """Makes ready for `ask`, in the process that asks."""
        raise NotImplementedError

    def set(self, setting: Setting) -> None:
        """Before queries of that setting; not timed."""

    def ask(self, query: np.ndarray, setting: Setting) -> Any:
        """The client's own answer, similarities or distances included."""
        raise NotImplementedError

    def rows(self, answer: Any) -> list[int]:
        """The numbers of the rows found."""
        raise NotImplementedError


class Hnswlib(Peer):
    variants = ("hnsw",)
    packages = ("hnswlib",)

    def build(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(len(vectors), ef_construction=EFFORT, M=CONNECTIVITY, random_seed=0)
        index.add_items(vectors, num_threads=1)
        path.mkdir()
        index.save_index(str(path / "index"))

    def open(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self.index.load_index(str(path / "index"))
        self.index.set_num_threads(1)

    def set(self, setting: Setting) -> None:
        self.index.set_ef(setting["ef"])

    def ask(self, query: np.ndarray, setting: Setting) -> Any:
        return self.index.knn_query(query, k=K)

    def rows(self, answer: Any) -> list[int]:
        return answer[0][0].tolist()


class Usearch(Peer):
    variants = ("hnsw",)
    packages = ("usearch",)

    def _index(self, dimension: int) -> Any:
        from usearch.index import Index

        return Index(
            ndim=dimension, metric="ip", dtype="f32", connectivity=CONNECTIVITY, expansion_add=EFFORT
        )

    def build(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        index = self._index(vectors.shape[1])
        index.add(np.arange(len(vectors)), vectors, threads=1)
        path.mkdir()
        index.save(str(path / "index"))

    def open(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        self.index = self._index(vectors.shape[1])
        self.index.load(str(path / "index"))

    def set(self, setting: Setting) -> None:
        self.index.expansion_search = setting["ef"]

    def ask(self, query: np.ndarray, setting: Setting) -> Any:
        return self.index.search(query, K, threads=1)

    def rows(self, answer: Any) -> list[int]:
        return answer.keys.tolist()


class Chroma(Peer):
    variants = ("hnsw",)
    packages = ("chromadb",)
    BATCH = 5_000

    def _client(self, path: Path) -> Any:
        import chromadb

        quiet = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(str(path), settings=quiet)

    def build(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        graph = {
            "space": "ip",
            "max_neighbors": CONNECTIVITY,
            "ef_construction": EFFORT,
            "num_threads": 1,
        }
        made = self._client(path).create_collection(
            "vectors", configuration={"hnsw": graph}, embedding_function=None
        )
        for first in range(0, len(vectors), self.BATCH):
            some = vectors[first : first + self.BATCH]
            made.add(ids=[str(first + place) for place in range(len(some))], embeddings=some)

    def open(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        self.path = path
        self.is_set: Setting = {}
        self.collection = self._client(path).get_collection("vectors", embedding_function=None)

    def set(self, setting: Setting) -> None:
        if setting == self.is_set:
            return
        from chromadb.api.shared_system_client import SharedSystemClient

        self.collection.modify(configuration={"hnsw": {"ef_search": setting["ef"]}})
        # An index that has been loaded keeps the setting that it was loaded with.
        SharedSystemClient.clear_system_cache()
        self.collection = self._client(self.path).get_collection("vectors", embedding_function=None)
        self.is_set = setting

    def ask(self, query: np.ndarray, setting: Setting) -> Any:
        return self.collection.query(query_embeddings=query[None], n_results=K, include=["distances"])

    def rows(self, answer: Any) -> list[int]:
        return [int(name) for name in answer["ids"][0]]


class Lancedb(Peer):
    variants = ("IVF_FLAT", "IVF_SQ", "IVF_HNSW_SQ")
    packages = ("lancedb",)

    def build(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        import lancedb
        import pyarrow as pa

        dimension = vectors.shape[1]
        rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension)
        table = pa.table({"id": pa.array(np.arange(len(vectors))), "vector": rows})
        made = lancedb.connect(str(path)).create_table("vectors", table)
        settings: dict[str, Any] = {"num_partitions": 316}
        if variant == "IVF_HNSW_SQ":
            settings = {"num_partitions": 4, "m": CONNECTIVITY, "ef_construction": EFFORT}
        made.create_index(metric="dot", index_type=variant, **settings)

    def open(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        import lancedb

        self.table = lancedb.connect(str(path)).open_table("vectors")

    def ask(self, query: np.ndarray, setting: Setting) -> Any:
        asked = self.table.search(query).limit(K).select(["id", "_distance"]).nprobes(setting["nprobes"])
        if "refine" in setting:
            asked = asked.refine_factor(setting["refine"])
        if "ef" in setting:
            asked = asked.ef(setting["ef"])
        return asked.to_arrow()

    def rows(self, answer: Any) -> list[int]:
        return answer["id"].to_pylist()


class MilvusLite(Peer):
    variants = ("HNSW", "IVF_FLAT")
    packages = ("milvus-lite", "pymilvus")
    BATCH = 2_000

    def build(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        from pymilvus import DataType, MilvusClient

        path.mkdir()
        client = MilvusClient(str(path / "milvus.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        indexes = client.prepare_index_params()
        made = {"M": CONNECTIVITY, "efConstruction": EFFORT} if variant == "HNSW" else {"nlist": 316}
        indexes.add_index("vector", index_type=variant, metric_type="IP", params=made)
        client.create_collection("vectors", schema=schema)
        for first in range(0, len(vectors), self.BATCH):
            some = vectors[first : first + self.BATCH]
            client.insert("vectors", [{"id": first + place, "vector": row} for place, row in enumerate(some)])
        client.flush("vectors")
        # A call that takes longer than the client's own timeout would be sent again, and be refused.
        client.create_index("vectors", indexes, timeout=3_600)
        client.load_collection("vectors")
        client.close()

    def open(self, variant: str, path: Path, vectors: np.ndarray) -> None:
        from pymilvus import MilvusClient

        self.client = MilvusClient(str(path / "milvus.db"))
        self.client.load_collection("vectors")

    def ask(self, query: np.ndarray, setting: Setting) -> Any:
        return self.client.search(
            "vectors", [query], limit=K, search_params={"metric_type": "IP", "params": dict(setting)}
        )

    def rows(self, answer: Any) -> list[int]:
        return [int(hit["id"]) for hit in answer[0]]


PEERS: Mapping[str, type[Peer]] = {
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "chroma": Chroma,
    "lancedb": Lancedb,
    "milvus-lite": MilvusLite,
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    # Whatever a library prints goes to stderr: stdout is for answers alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = PEERS[name](folder)
    served = Served(name, peer, folder)
    for line in sys.stdin:
        try:
            reply = served.reply(json.loads(line))
        except Exception as error:  # one that fails is reported, and the others go on
            reply = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


class Served:
    """What one process answers. The same program serves for any engine that has the methods of a Peer."""

    def __init__(self, name: str, peer: Peer, folder: Path) -> None:
        self.peer, self.name, self.folder = peer, name, folder
        self.vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        self.queries = np.load(folder / "queries.npy")
        self.opened = ""

    def reply(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        if asked["do"] == "build":
            only = bool(asked.get("only_built"))
            built = {variant: self.built(variant, only_built=only) for variant in self.peer.variants}
            return {"built": built, "versions": {each: version(each) for each in self.peer.packages}}
        if asked["variant"] != self.opened:
            self.peer.open(asked["variant"], self.path(asked["variant"]), self.vectors)
            self.opened = asked["variant"]
        return self.asked(asked["setting"], asked["first"], asked["last"])

    def path(self, variant: str) -> Path:
        return self.folder / f"{self.name}-{variant}"

    def built(self, variant: str, *, only_built: bool = False) -> dict[str, Any]:
        """Seconds and bytes; an error in their place where it could not be built. What an earlier run built
        is taken as it is."""
        path = self.path(variant)
        note = path.parent / f"{path.name}.json"
        if note.is_file():
            return dict(json.loads(note.read_text("utf-8")))
        if only_built:
            return {"error": "it has not been built"}
        shutil.rmtree(path, ignore_errors=True)
        start = time.perf_counter()
        try:
            self.peer.build(variant, path, np.ascontiguousarray(self.vectors))
        except Exception as error:
            return {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        seconds = time.perf_counter() - start
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        found = {"seconds": round(seconds, 1), "bytes": size}
        note.write_text(json.dumps(found), encoding="utf-8")
        return found

    def asked(self, setting: Setting, first: int, last: int) -> dict[str, Any]:
        self.peer.set(setting)
        self.peer.ask(
            self.queries[first], setting
        )  # what is read or allocated at first is not a query's time
        milliseconds, processor, found = [], [], []
        for query in self.queries[first:last]:
            start, spent = time.perf_counter(), time.process_time()
            answer = self.peer.ask(query, setting)
            processor.append(1_000 * (time.process_time() - spent))
            milliseconds.append(1_000 * (time.perf_counter() - start))
            found.append(self.peer.rows(answer))
        return {"ms": milliseconds, "cpu_ms": processor, "rows": found}


if __name__ == "__main__":
    main()
