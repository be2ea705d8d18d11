"""Convert a merged model to a GGUF file for llama.cpp and Ollama, with llama.cpp's own converter.

The converter is updated with every new architecture, so it has to come from the llama.cpp that will run the file:
https://github.com/ggml-org/llama.cpp, `convert_hf_to_gguf.py`. It is not part of the PyPI package `gguf`, which only
reads and writes the format.
"""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Literal

from loraline.errors import ConfigurationError, ModelLoadingError

OutType = Literal["auto", "f32", "f16", "bf16", "q8_0"]
_SCRIPT = "convert_hf_to_gguf.py"
_MAX_LOG_LINES = 15


def find_converter() -> list[str]:
    """The converter's command: from the checkout in LLAMA_CPP_DIR, else from the PATH.

    Raises:
        ConfigurationError: the converter is not installed.
    """
    checkout = os.environ.get("LLAMA_CPP_DIR")
    if checkout:
        script = Path(checkout).expanduser() / _SCRIPT
        if not script.is_file():
            raise ConfigurationError(
                f"LLAMA_CPP_DIR is {checkout!r}, which has no {_SCRIPT}; give a checkout of llama.cpp"
            )
        return [sys.executable, str(script)]
    command = shutil.which(_SCRIPT)
    if command:
        return [command]
    raise ConfigurationError(
        f"GGUF export needs llama.cpp's {_SCRIPT}, which is not installed here. Install it with `git clone "
        "https://github.com/ggml-org/llama.cpp` and `pip install sentencepiece`, and set LLAMA_CPP_DIR to that "
        "folder (or `brew install llama.cpp`, which puts it on the PATH). Or export with --format safetensors, and "
        "convert where llama.cpp is installed."
    )


def convert(model: Path, output: Path, outtype: OutType) -> None:
    """Convert a model folder to a GGUF file.

    Args:
        model: a Hugging Face folder with 16-bit or 32-bit weights, tokenizer and chat template.
        output: the GGUF file.
        outtype: data type of its weights. auto: the model's own 16-bit type.

    Raises:
        ConfigurationError: the converter is not installed.
        ModelLoadingError: the converter fails, for example because it does not support the architecture.
    """
    command = [*find_converter(), str(model), "--outfile", str(output), "--outtype", outtype]
    completed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    log = "\n".join(completed.stdout.strip().splitlines()[-_MAX_LOG_LINES:])
    if completed.returncode:
        raise ModelLoadingError(
            f"llama.cpp's converter failed on {model} (exit status {completed.returncode}). It supports the "
            f"architectures and tokenizers that llama.cpp supports. The end of its output:\n{log}"
        )
    if not output.is_file() or count_tensors(output) < 1:
        raise ModelLoadingError(f"llama.cpp's converter succeeded, but wrote no model to {output}:\n{log}")


def count_tensors(path: Path) -> int:
    """The number of tensors in a GGUF file, from its header.

    Raises:
        ModelLoadingError: it is not a GGUF file.
    """
    with path.open("rb") as file:
        header = file.read(16)
    if len(header) < 16 or header[:4] != b"GGUF":
        raise ModelLoadingError(f"{path} is not a GGUF file: it begins with {header[:4]!r}")
    return int(struct.unpack("<Q", header[8:16])[0])
