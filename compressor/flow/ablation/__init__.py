"""What each ingredient of a recipe's distillation is worth: its student made with and without it."""
