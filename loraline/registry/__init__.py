"""What MLflow's model registry holds of a model: versions, their tags and aliases, and the files behind them."""
