from tests.loraline.training.conftest import make_model, tokenizer  # noqa: F401  # fixtures
