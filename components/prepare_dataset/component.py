"""KFP wrapper of `prepare_dataset`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def prepare_dataset(settings: str, dataset: dsl.Output[dsl.Dataset], page: dsl.Output[dsl.HTML]):
    """Validate, clean, split and fingerprint the rows, and describe them on a page."""
    import shutil
    import tempfile
    from pathlib import Path

    from loraline.artifacts.dataset_files import PAGE
    from loraline.data.prepare import prepare
    from loraline.models.chat_settings import write_chat_settings
    from loraline.settings import PrepareSettings
    from loraline.sources.dataset import check_datasets
    from loraline.sources.model import fetch_tokenizer
    from loraline.step import step

    with step("prepare_dataset"), tempfile.TemporaryDirectory() as folder:
        parsed = PrepareSettings.parse(settings)
        fetch_tokenizer(parsed.tokenizer_source, parsed.tokenizer_revision, Path(folder))
        write_chat_settings(Path(folder), parsed.chat_template, parsed.chat_template_kwargs)
        report = prepare(parsed.config, Path(folder), Path(dataset.path), parsed.max_length, parsed.policy)
        check_datasets(parsed.config.addresses(), parsed.digest)  # after reading: what changed before shows as well
        shutil.copyfile(Path(dataset.path) / PAGE, page.path)
    dataset.metadata["fingerprint"] = report.fingerprint
