"""What one step hands to another: every file name, and every report as one class that its writer and readers share.

A module for each step that writes, so that a change to one report does not touch the identity of the other steps.

| step | module | files |
|---|---|---|
| prepare_dataset | dataset, dataset_files | report.json, train.parquet, eval.parquet, general.parquet, bad_rows.jsonl |
| load_model | base_model | loraline.json, beside a Hugging Face folder |
| train_lora | training | training.json, mask.json, beside a PEFT folder |
| evaluate_model | evaluation | metrics.json or champion.json, examples.jsonl, general.jsonl, probes.jsonl |
| merge_adapter | merging | parity.json, beside a Hugging Face folder |
| gate | verdict, loraline.evidence.schema | verdict.json, evidence.json |
| register_model | registration | registration.json |
"""
