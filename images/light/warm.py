"""Import what the light steps import, so that the image holds the bytecode of these modules and of no others.

All bytecode would be 200 MB; without any, on a read-only file system, each step would start four seconds later.
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
