"""The evidence as people read it: one HTML page, the model card, and a short summary."""
