"""KFP wrapper of `train_lora`."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.GPU, install_kfp_package=False)
def train_lora(
    settings: str, model: dsl.Input[dsl.Model], dataset: dsl.Input[dsl.Dataset], adapter: dsl.Output[dsl.Model]
):
    """Train an adapter on the frozen base."""
    from pathlib import Path

    from loraline import tracking
    from loraline.settings import TrainSettings
    from loraline.step import step
    from loraline.training.launch import launch

    with step("train_lora"), tracking.child_run("train_lora") as tracker:
        parsed = TrainSettings.parse(settings)
        folders = Path(model.path), Path(dataset.path), Path(adapter.path)
        launch(parsed.config, *folders, parsed.checkpoints, tracker)
