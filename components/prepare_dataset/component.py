"""KFP wrapper of `prepare_dataset`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def prepare_dataset(settings: str, dataset: dsl.Output[dsl.Dataset], page: dsl.Output[dsl.HTML]):
    """Validate, clean, split and fingerprint the rows, and describe them on a page."""
    import json
    import shutil
    import tempfile
    from pathlib import Path

    from loraline.data.config import DataConfig
    from loraline.data.prepare import prepare
    from loraline.safety import Policy
    from loraline.sources.dataset import check_datasets
    from loraline.sources.model import fetch_tokenizer
    from loraline.step import step

    beside = json.loads(settings)
    tokenizer, policy = beside["tokenizer"], Policy.of(beside["policy"])
    with step("prepare_dataset"), tempfile.TemporaryDirectory() as folder:
        fetch_tokenizer(tokenizer["source"], tokenizer["revision"], Path(folder))
        config = DataConfig.from_settings(settings)
        report = prepare(config, Path(folder), Path(dataset.path), beside["max_length"], policy)
        check_datasets(config.sources(), beside["digest"])  # after reading: what changed before shows as well
        shutil.copyfile(Path(dataset.path) / "report.html", page.path)
    dataset.metadata["fingerprint"] = report.fingerprint
