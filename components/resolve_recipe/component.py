"""KFP wrapper of `resolve_recipe`."""

from typing import NamedTuple

from kfp import dsl

from components import images


# A lightweight component's signature is read from its source, so that the parameters stand here one by one.
# A test holds them to the recipe's fields.
@dsl.component(base_image=images.LIGHT, install_kfp_package=False)
def resolve_recipe(
    data_source: str,
    eval_source: str,
    general_source: str,
    data_revision: str,
    eval_revision: str,
    general_revision: str,
    subset: str,
    split: str,
    eval_split: str,
    format: str,
    encoding: str,
    columns: dict,
    max_rows: int,
    max_bad_fraction: float,
    eval_fraction: float,
    chunk_tokens: int,
    chunk_overlap: int,
    near_duplicates: str,
    near_duplicate_similarity: float,
    personal_data: str,
    model_source: str,
    model_revision: str,
    quantization: str,
    compute_dtype: str,
    device: str,
    attention: str,
    chat_template: str,
    chat_template_kwargs: dict,
    trust_remote_code: bool,
    rank: int,
    alpha: float,
    dropout: float,
    target_modules: list,
    use_dora: bool,
    use_rslora: bool,
    learning_rate: float,
    lr_scheduler_type: str,
    warmup_ratio: float,
    weight_decay: float,
    epochs: int,
    max_steps: int,
    max_length: int,
    training_batch_size: int,
    gradient_accumulation_steps: int,
    max_grad_norm: float,
    gradient_checkpointing: bool,
    eval_steps: int,
    early_stopping_patience: int,
    save_steps: int,
    save_minutes: float,
    seed: int,
    nodes: int,
    max_examples: int,
    evaluation_batch_size: int,
    max_new_tokens: int,
    tasks: list,
    task_folder: str,
    task_examples: int,
    policy: str,
    max_divergence: float,
    max_effect_change: float,
    parity_examples: int,
    generated_tokens: int,
    metric: str,
    min_gain: float,
    min_examples: int,
    confidence: float,
    champion_margin: float,
    max_forgetting: float,
    max_task_drop: float,
    max_degenerate: float,
    max_contamination: float,
    model_name: str,
    bucket: str,
) -> NamedTuple(
    "Settings",
    prepare_dataset=str,
    load_model=str,
    train_lora=str,
    evaluate_base=str,
    evaluate_tuned=str,
    evaluate_champion=str,
    merge_adapter=str,
    gate=str,
    register_model=str,
):
    """Validate the whole recipe and hand each step its settings, with all that could change pinned."""
    parameters = dict(locals())
    from loraline import tracking
    from loraline.recipe import Recipe
    from loraline.resolve import resolve
    from loraline.step import step

    tracking.parent_run().close()  # made before any other step could want it
    with step("resolve_recipe"):
        return resolve(Recipe.from_parameters(parameters))
