"""Words to token numbers, as each family was trained to read them."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from regionsearch.errors import ModelUnavailable
from regionsearch.models.checkpoints import read_json
from regionsearch.models.dual_encoder.settings import Family
from regionsearch.models.embedder import check_visible

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class WordTokens:
    """The tokenizer of a folder.

    Of `tokenizer.json` nothing is changed but padding and truncation, which follow the families' own
    usage: CLIP's texts end with their end token (what is padded after it is never read); SigLIP and
    SigLIP 2 were trained on texts of one length, padded on the right, without an attention mask, in small
    letters, SigLIP also without punctuation.

    folder: of the checkpoint. length: the model's context, tokens, end tokens counted.
    Raises ModelUnavailable when there is no tokenizer, or it cannot be read.
    """

    def __init__(self, folder: Path, family: Family, length: int) -> None:
        self._length = length
        self._padded = family != "clip"
        # CLIP's needs nothing of it, and is not padded.
        config = read_json(folder / "tokenizer_config.json") if self._padded else {}
        self.files = [folder / name for name in TOKENIZER_FILES if (folder / name).exists()]
        self._written: Callable[[str], str] = _as_written
        if family != "clip":
            first_siglip = str(config.get("tokenizer_class", "")).startswith("SiglipTokenizer")
            self._written = _bare_words if first_siglip else str.lower
        self._tokenizer = _tokenizer(folder, family)
        self._tokenizer.enable_truncation(length)
        self._tokenizer.no_padding()
        if self._padded:
            pad = _special(config, "pad_token", folder)
            number = self._tokenizer.token_to_id(pad)
            if number is None:
                raise ModelUnavailable(f"the tokenizer in {folder} does not know its pad token {pad!r}")
            self._tokenizer.enable_padding(direction="right", pad_id=number, pad_token=pad, length=length)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers, at most the model's context; of SigLIP exactly that.

        Raises InvalidRequest for a text without a single visible character.
        """
        for text in texts:
            check_visible(text)
        return [row.ids for row in self._tokenizer.encode_batch([self._written(text) for text in texts])]


def _tokenizer(folder: Path, family: Family) -> Any:
    """A `tokenizers.Tokenizer`."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.exists():
        return _from_older_files(folder, family)
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    # The library raises bare Exceptions for files that it cannot read.
    except Exception as error:
        raise ModelUnavailable(f"{path} cannot be read: {error}") from error


def _from_older_files(folder: Path, family: Family) -> Any:
    if family == "clip" and (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        from transformers import CLIPTokenizer

        try:
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
        except (OSError, ValueError, KeyError) as error:
            raise ModelUnavailable(f"the tokenizer in {folder} cannot be read: {error}") from error
    # A sentencepiece model alone would need one more package; all published folders have both.
    raise ModelUnavailable(f"{folder} has no tokenizer.json (transformers' save_pretrained writes it)")


def _special(config: dict[str, Any], name: str, folder: Path) -> str:
    token = config.get(name)
    if isinstance(token, dict):
        token = token.get("content")
    if not isinstance(token, str):
        raise ModelUnavailable(f"{folder / 'tokenizer_config.json'} names no {name}")
    return token


def _as_written(text: str) -> str:
    return text


def _bare_words(text: str) -> str:
    """As SigLIP's authors write texts: small letters, no ASCII punctuation, single spaces."""
    return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()
