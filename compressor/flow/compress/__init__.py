"""A model compressed without a recipe: what is wanted, what can be had, the recipe chosen for it, and its run."""
