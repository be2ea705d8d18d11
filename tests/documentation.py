"""The commands of the Markdown pages, as a shell would read them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "manifests/README.md",
    ROOT / "images/README.md",
]
_ENDS = {"&&", "||", "|", ";", "&", ">", ">>", "<", "<<", "(", ")", ";;"}


@dataclass(frozen=True)
class Command:
    """A command with its arguments, and where it stands."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {' '.join(self.words)}"


def blocks(page: Path) -> list[str]:
    """The shell blocks of a page."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def block(page: Path, start: str) -> str:
    """The one block of a page that has a line that starts so."""
    [found] = [one for one in blocks(page) if re.search(rf"^{re.escape(start)}", one, re.MULTILINE)]
    return str(found)


def commands(page: Path, program: str) -> list[Command]:
    """Every call of a program in the shell blocks of a page."""
    return [Command(page, words) for one in blocks(page) for words in _calls(one) if words[0] == program]


def inline(page: Path, program: str) -> list[Command]:
    """Every call of a program in the prose of a page, in backticks: often a part of a command only."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = (re.sub(r"<[^>]*>", "X", one) for one in re.findall(r"`([^`\n]+)`", prose))
    return [Command(page, words) for one in found for words in _calls(one) if words[0] == program]


def _calls(text: str) -> list[tuple[str, ...]]:
    text = re.sub(r"<<(\w+)\n.*?^\1\n", "\n", text, flags=re.MULTILINE | re.DOTALL)
    found: list[tuple[str, ...]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*_words(lexer, line), ";"]:
            if word in _ENDS:
                found += [tuple(words)] if words else []
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)
    return found


def _words(lexer: shlex.shlex, line: str) -> list[str]:
    try:
        return list(lexer)
    except ValueError:  # a quotation over several lines
        return line.split()
