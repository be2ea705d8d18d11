"""Read the records of a source: where it is, its files, their formats, and the chunks of plain text."""
