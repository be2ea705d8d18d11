"""Runs a notebook's cells in this process, without Jupyter.

`python -m tests.examples.notebook` runs examples/finetune.ipynb, and saves it with its outputs as text.
"""

import ast
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

FINETUNE = Path(__file__).parents[2] / "examples" / "finetune.ipynb"


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run all code cells in one namespace, which is returned, and set the cells' outputs."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(cells, 1):
        cell["outputs"] = _run_cell("".join(cell["source"]), namespace, count)
        cell["execution_count"] = count
    return namespace


def _run_cell(source: str, namespace: dict[str, Any], count: int) -> list[dict[str, Any]]:
    tree, value = ast.parse(source), None
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "cell", "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        result = {"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        outputs.append(result)
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    """Run the notebook in a temporary folder and save it with its outputs."""
    notebook = json.loads(FINETUNE.read_text())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        run(notebook)
    FINETUNE.write_text(json.dumps(notebook, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
