"""Import what the steps import, so that Python keeps the bytecode of that, and of nothing else, in the image.

All bytecode would weigh 200 MB; with none at all, on a file system that cannot be written, each step would start
four seconds later.
"""

import datasets
import huggingface_hub
import jinja2
import kfp.dsl.executor_main
import minio
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
import tokenizers
import yaml
from mlflow import MlflowClient
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

__all__ = [
    "AutoConfig",
    "AutoTokenizer",
    "MlflowClient",
    "PreTrainedTokenizerFast",
    "datasets",
    "huggingface_hub",
    "jinja2",
    "kfp",
    "minio",
    "pyarrow",
    "tokenizers",
    "yaml",
]
