"""The files that train_lora writes beside PEFT's own and the reports."""

MASK_PAGE = "mask.html"
"""The loss mask as a page. It is rendered from mask.json and not part of the adapter's digest."""
