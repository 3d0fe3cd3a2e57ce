"""Index segments: immutable FAISS files over the vectors of a range of images."""
