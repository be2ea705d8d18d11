"""KFP wrapper of `report`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def report(
    evidence: dsl.Input[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    card: dsl.Output[dsl.Markdown],
    registration: dsl.Input[dsl.Artifact] = None,
):
    """Show the whole run on one page, and log its figures to the run's root in MLflow."""
    import tempfile
    from pathlib import Path

    from loraline.report.write import write_report
    from loraline.step import step

    with step("report"), tempfile.TemporaryDirectory() as folder:
        written = write_report(Path(evidence.path), Path(registration.path) if registration else None, Path(folder))
        for made, artifact in ((written.page, page), (written.summary, summary), (written.card, card)):
            Path(artifact.path).write_bytes(made.read_bytes())
