"""Fine-tuning from Python: `loraline.FineTune`."""
