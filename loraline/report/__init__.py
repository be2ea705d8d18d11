"""The evidence as people read it: one HTML page, the model card, and a short summary."""

from loraline.report.markdown import to_markdown
from loraline.report.model_card import model_card
from loraline.report.page import render_page

__all__ = ["model_card", "render_page", "to_markdown"]
