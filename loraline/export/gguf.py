"""A merged model as one GGUF file, which llama.cpp and Ollama run. llama.cpp's own converter makes it.

The converter follows the models as they come out, and so comes from the llama.cpp that will run the file:
https://github.com/ggml-org/llama.cpp, `convert_hf_to_gguf.py`. It is not part of the PyPI package `gguf`, which
reads and writes the format only.
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
_LINES_SHOWN = 15


def find_converter() -> list[str]:
    """The command that converts: of the checkout that LLAMA_CPP_DIR names, else on the PATH.

    Raises:
        ConfigurationError: it is not installed.
    """
    checkout = os.environ.get("LLAMA_CPP_DIR")
    if checkout:
        script = Path(checkout).expanduser() / _SCRIPT
        if not script.is_file():
            raise ConfigurationError(
                f"LLAMA_CPP_DIR is {checkout!r}, and there is no {_SCRIPT} in it; name a checkout of llama.cpp"
            )
        return [sys.executable, str(script)]
    command = shutil.which(_SCRIPT)
    if command:
        return [command]
    raise ConfigurationError(
        f"GGUF files are made by llama.cpp's {_SCRIPT}, which is not installed here. Get it with `git clone "
        "https://github.com/ggml-org/llama.cpp`, `pip install sentencepiece`, and set LLAMA_CPP_DIR to that "
        "folder (or `brew install llama.cpp`, which puts it on the PATH). Without it: --format safetensors, "
        "to be converted where llama.cpp is."
    )


def convert(model: Path, output: Path, outtype: OutType) -> None:
    """Write a model folder as a GGUF file.

    Args:
        model: a Hugging Face folder with weights in 16 or 32 bit, tokenizer and chat template.
        output: the file.
        outtype: type of the weights there. auto: the model's own 16-bit type.

    Raises:
        ConfigurationError: the converter is not installed.
        ModelLoadingError: the converter does not know the model, or fails.
    """
    command = [*find_converter(), str(model), "--outfile", str(output), "--outtype", outtype]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    said = "\n".join(done.stdout.strip().splitlines()[-_LINES_SHOWN:])
    if done.returncode:
        raise ModelLoadingError(
            f"llama.cpp's converter failed on {model} (exit status {done.returncode}). It takes the architectures and "
            f"tokenizers that llama.cpp itself knows. Its last words:\n{said}"
        )
    if not output.is_file() or tensors(output) < 1:
        raise ModelLoadingError(f"llama.cpp's converter ended well, but wrote no model to {output}:\n{said}")


def tensors(path: Path) -> int:
    """How many tensors a GGUF file says it holds.

    Raises:
        ModelLoadingError: it is no GGUF file.
    """
    with path.open("rb") as file:
        head = file.read(16)
    if len(head) < 16 or head[:4] != b"GGUF":
        raise ModelLoadingError(f"{path} is no GGUF file: it begins with {head[:4]!r}")
    return int(struct.unpack("<Q", head[8:16])[0])
