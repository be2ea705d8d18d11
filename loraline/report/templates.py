"""Pages and cards are made from templates, all by the same rules."""

import jinja2


def templates(package: str | None, *, is_html: bool = True) -> jinja2.Environment:
    """The templates that lie beside a package's modules. A name that a template does not get is an error.

    Args:
        package: the package, as `__package__` of the module that calls.
        is_html: what is filled in is escaped for HTML. Not for Markdown.
    """
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package or "", "."),
        autoescape=is_html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
