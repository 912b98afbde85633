"""How a reader learns: fine-tuning, prediction-layer and intermediate-layer distillation."""
