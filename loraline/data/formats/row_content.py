"""What a record says, whatever its format."""

from dataclasses import dataclass

from loraline.artifacts.dataset_files import Message, Tool


@dataclass(slots=True)  # frozen takes twice as long to make, for every row
class RowContent:
    """The normalized content of a row. Exactly one of messages and text is set."""

    messages: list[Message] | None = None
    text: str | None = None
    tools: list[Tool] | None = None
    """The tools that the assistant of a conversation may call."""
