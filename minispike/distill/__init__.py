"""Knowledge distillation: losses, augmentation, the two stages."""
