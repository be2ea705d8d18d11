"""KFP wrapper of `report`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def report(
    evidence: dsl.Input[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    registration: dsl.Input[dsl.Artifact] = None,
):
    """Show the whole run on one page, and log its figures to the run's root in MLflow."""
    import tempfile
    from pathlib import Path

    from components.report.report import write_report
    from components.shared import progress

    with progress.step("report"), tempfile.TemporaryDirectory() as folder:
        write_report(Path(evidence.path), Path(registration.path) if registration else None, Path(folder))
        Path(page.path).write_bytes((Path(folder) / "report.html").read_bytes())
        Path(summary.path).write_bytes((Path(folder) / "README.md").read_bytes())
