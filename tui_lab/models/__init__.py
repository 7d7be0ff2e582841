"""Model checkpoints: the catalog, shapes, target modules and loading."""
