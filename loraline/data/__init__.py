"""From a source of any format to rows to train and evaluate on, and from rows to tokens.

| package or module | what it does |
|---|---|
| prepare | the step: all passes over the rows, and the report |
| ingest | the first pass: the packages below, row by row |
| reading/ | records of files, S3, the Hub and built-in datasets; a reader for each file format; chunks of plain text |
| formats/ | row formats (prompt-completion, Alpaca, ShareGPT, OpenAI messages, plain text): detect them, convert them |
| validation/ | checks of each field, and the log of bad rows |
| row_screening | personal data and the safety policy |
| dataset_writer, split, fingerprint | deduplicate, split by the hash of the prompt, and write parquet files |
| rows | the rows and their parquet files |
| similarity/ | near-duplicates and contamination, on hashed n-grams of words |
| description/ | lengths, truncation, labels and samples for the report |
| chat, chat_template | rows and conversations as tokens with a loss mask |
"""
