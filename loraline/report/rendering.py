"""The environments in which templates/ is rendered: one for HTML, one for Markdown."""

import jinja2

from loraline.report import charts, formatting

_FILTERS = ("figure", "signed", "duration", "percent", "shorten", "visible_text")


def render_html(template: str, /, **values: object) -> str:
    """Render a page: what is filled in is escaped, and a name that is missing is an error."""
    environment = _environment(autoescape=True)
    environment.globals["box"] = charts
    return environment.get_template(template).render(**values)


def render_markdown(template: str, /, **values: object) -> str:
    """Render Markdown: nothing is escaped, and a name that is missing is an error."""
    return _environment(autoescape=False).get_template(template).render(**values)


def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("loraline.report"),
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {name: getattr(formatting, name) for name in _FILTERS}
    return environment
