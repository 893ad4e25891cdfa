"""FeatDice: segmentations from frozen features alone, without training."""
