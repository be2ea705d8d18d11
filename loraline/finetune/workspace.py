"""The folder of a job: each result in a folder of its own, named after what it depends on, so that it is made once."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loraline.identity.digests import json_digest

_KEY_LENGTH = 12


class Workspace:
    """Finished results below a folder. A result that was interrupted leaves nothing that could be taken for one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, *identity: Any) -> Path:
        """The folder of a result.

        Args:
            kind: what it is, such as `adapter`.
            identity: all that the result depends on, as JSON values.
        """
        return self.root / f"{kind}-{json_digest(list(identity))[:_KEY_LENGTH]}"

    def result(self, folder: Path, make: Callable[[Path], object]) -> Path:
        """The finished result in a folder that `path` names, made first if it is not there.

        What a failed attempt wrote stays beside it until the next attempt: a message may name a file in it.

        Args:
            folder: its folder.
            make: makes it in the folder that it is given. Two processes may both make it; the first to finish counts.
        """
        if folder.exists():
            return folder
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
        for left in folder.parent.glob(f".{folder.name}.*"):
            if left == unfinished or not _is_alive(left.suffix.removeprefix(".")):
                shutil.rmtree(left, ignore_errors=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        make(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            shutil.rmtree(unfinished, ignore_errors=True)
        return folder


def _is_alive(process: str) -> bool:
    """Whether the process of this id still runs."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
