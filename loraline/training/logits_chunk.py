"""The number of label positions whose logits exist at one time. The loss and the memory estimate both read it."""

LOGITS_CHUNK = 256
"""Label positions; the fastest of 32 to 512 with a vocabulary of 32k on a CPU."""
