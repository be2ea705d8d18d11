"""The fixtures that prepare a dataset, for its page."""

from tests.loraline.data.conftest import run, tokenizer_folder

__all__ = ["run", "tokenizer_folder"]
