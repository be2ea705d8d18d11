"""Row formats: detect which one a source has, and convert its records to messages or text."""
