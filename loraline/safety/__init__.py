"""A safety policy: one file that training, evaluation, the gate and inference all apply."""
