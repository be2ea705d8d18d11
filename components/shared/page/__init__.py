"""The evidence as people read it: one HTML page, the model card, and a short summary."""

from components.shared.page.card import model_card
from components.shared.page.render import render_page
from components.shared.page.summary import to_markdown

__all__ = ["model_card", "render_page", "to_markdown"]
